package engine_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/engine/metrics"
	"sluice/pipeline/packet/packettest"
)

// TestPressure checks that a flood at a service is told while it lasts, and no longer: the status
// names the service, how many per second, what became of them, and the prefix that half of them
// come from; another service is not named.
func TestPressure(t *testing.T) {
	for workers, mode := range map[int]string{1: "nat", 2: "tun"} {
		t.Run(fmt.Sprint(mode, workers), func(t *testing.T) {
			t.Parallel()
			lab, log := enginetest.New(t, workers, workers), new(logBuffer)
			lab.Log = slog.New(slog.NewTextHandler(log, nil))
			lab.Start(workers, config(svc{name: "one", mode: mode, extra: "[service.limits]\nunproven = 0.01\n", backends: []string{"10.0.0.11:80"}},
				svc{name: "two", vip: "198.51.100.11", mode: mode, backends: []string{"10.0.0.12:80"}}))
			sent := 0
			flood := func() {
				for range 64 {
					from := fmt.Sprintf("203.0.113.%d:%d", 1+sent>>16&127, 1024+sent%60000)
					if sent%2 == 0 {
						from = fmt.Sprintf("100.%d.%d.7:%d", 64+sent>>8&63, sent>>1&255, 1024+sent%60000)
					}
					lab.Arrive(enginetest.Clients, packettest.TCP(from, vip4+":80").Flags(syn).Frame())
					sent++
				}
				lab.Quiet()
				lab.Collect()
			}
			status := func() api.Status {
				t.Helper()
				s, err := lab.Engine.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			within := func(what string, done func() bool) {
				t.Helper()
				for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("timed out waiting for %s: %+v", what, status())
					}
				}
			}
			if s := status(); len(s.Pressure)+len(s.Attention) != 0 {
				t.Errorf("before the flood: %+v", s)
			}
			var s api.Status
			within("the pressure and its sources", func() bool {
				flood()
				s = status()
				return len(s.Pressure) > 0 && s.Pressure[0].FoundFull > 300 && len(s.Pressure[0].Sources) > 0 && s.Pressure[0].Sources[0].Share > 0.4
			})
			p := s.Pressure[0]
			if len(s.Pressure) != 1 || p.Service != "one" || p.PerSecond <= 0 || p.SinceS < 0 || p.FoundFull != p.Displacing || p.Refused+p.Untracked != 0 ||
				p.Sources[0].Prefix != "203.0.113.0/24" {
				t.Errorf("%+v", s.Pressure)
			}
			if len(s.Alarms) != 1 || s.Alarms[0].Kind != api.AlarmPressure || s.Alarms[0].Service != "one" ||
				len(s.Attention) != 1 || !strings.HasPrefix(s.Attention[0], "service one: new connections find no free entry") {
				t.Errorf("%+v, attention %q", s.Alarms, s.Attention)
			}
			services, err := lab.Engine.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			one, two := services[0], services[1]
			if one.FoundFull < p.FoundFull || one.Displaced == 0 || one.Displaced > lab.Stats().Displaced || one.Unproven == 0 || one.TableFull+one.Untracked != 0 || one.Pressure == nil ||
				two.FoundFull+two.Displaced+two.Unproven != 0 || two.Pressure != nil {
				t.Errorf("%+v\n%+v", one, two)
			}
			measured := func(lines ...string) bool {
				answer := httptest.NewRecorder()
				metrics.New(lab.Engine, metrics.Options{}).Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
				for _, line := range lines {
					if !regexp.MustCompile("(?m)^" + line + "$").MatchString(answer.Body.String()) {
						return false
					}
				}
				return true
			}
			within("the metrics", func() bool {
				flood()
				return measured(`sluice_service_alarm\{kind="pressure",service="one"\} 1`, `sluice_alarms\{kind="pressure"\} 1`, `sluice_service_found_full_total\{service="one"\} [1-9].*`,
					`sluice_service_displaced_total\{service="one"\} [1-9].*`, `sluice_service_unproven_connections\{service="one"\} [1-9].*`,
					`sluice_service_table_full_total\{service="one"\} 0`, `sluice_service_found_full_total\{service="two"\} 0`)
			})
			within("the end of the pressure", func() bool {
				s = status()
				return len(s.Pressure)+len(s.Alarms)+len(s.Attention) == 0
			})
			if !measured(`sluice_alarms\{kind="pressure"\} 0`) {
				t.Error("metrics have the alarm that status has not")
			}
			for _, line := range []string{`event=alarm_raised kind=pressure service=one text=.* "per second"=[0-9]+ displacing=[1-9].* refused=0 untracked=0 busiest=`,
				`event=alarm_ended kind=pressure service=one after=[0-9]+.* "new connections"=[1-9].* displacing=[1-9].* refused=0 untracked=0`} {
				if !regexp.MustCompile(line).MatchString(log.String()) {
					t.Errorf("no line %q in the log:\n%s", line, log)
				}
			}
		})
	}
}
