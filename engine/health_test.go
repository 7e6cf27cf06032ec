package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/engine/override"
	"sluice/pipeline/packet/packettest"
)

// fakeBackends answers health checks. Its methods may be called by any goroutine.
type fakeBackends struct {
	mu      sync.Mutex
	failing map[netip.Addr]bool
	lack    error // of this host; nil: none
	probes  int
}

func (p *fakeBackends) probe(_ context.Context, c health.Check) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	if p.lack != nil {
		return p.lack
	}
	if p.failing[c.Target.Addr()] {
		return errors.New("does not answer")
	}
	return nil
}

// setFailing makes exactly these backends fail their checks.
func (p *fakeBackends) setFailing(failing ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing = make(map[netip.Addr]bool)
	for _, a := range failing {
		p.failing[netip.MustParseAddr(a)] = true
	}
}

// setLack makes no check run, with this error, or with nil all.
func (p *fakeBackends) setLack(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lack = err
}

// checkedLab returns a lab of one worker that checks its backends every 10 ms.
func checkedLab(t *testing.T, services ...svc) (*enginetest.Lab, *fakeBackends) {
	t.Helper()
	lab, fake := enginetest.New(t, 1, 1), &fakeBackends{}
	lab.Probe = fake.probe
	lab.Start(1, config(services...))
	return lab, fake
}

// checked has a service's backends checked; keys are further ones of [service.health], service of
// [[service]].
func checked(s svc, service, keys string) svc {
	s.extra += service + "\n[service.health]\ntype = \"tcp\"\ninterval = \"10ms\"\ntimeout = \"10ms\"\nflap_hold = \"0s\"\n" + keys
	return s
}

// statesOf writes a service's backends as "up down/protected drain".
func statesOf(s api.Service) string {
	var all []string
	for _, b := range s.Backends {
		text := b.State
		if b.Protected {
			text += "/protected"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// awaitStates waits until the first service's backends are in these states.
func awaitStates(t *testing.T, lab *enginetest.Lab, want string) api.Service {
	t.Helper()
	var s api.Service
	lab.Await("states "+want, func() bool {
		s = list(t, lab)[0]
		return statesOf(s) == want
	})
	return s
}

// alarms writes the alarms as "kind service".
func alarms(t *testing.T, lab *enginetest.Lab) string {
	t.Helper()
	all, err := lab.Engine.Alarms(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, a := range all {
		if a.Text == "" || a.SinceS < 0 {
			t.Errorf("%+v", a)
		}
		texts = append(texts, strings.TrimSpace(a.Kind+" "+a.Service))
	}
	return strings.Join(texts, ", ")
}

// TestDownAndUp: a dead backend gets no new connections, says why, and comes back.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), `on_down = "keep"`, ""))
	before := openAll(t, lab, 0, 30)
	fake.setFailing("10.0.0.12")
	s := awaitStates(t, lab, "up down up")
	if b := s.Backends[1]; b.Reason != "does not answer" || b.LastError != "does not answer" || b.StateSinceS < 0 || b.StateSinceS > 60 {
		t.Errorf("%+v", b)
	}
	if n := spread(openAll(t, lab, 100, 130)); n["10.0.0.12:8080"] != 0 || len(n) != 2 {
		t.Errorf("new flows went to %v", n)
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
	fake.setFailing()
	if b := awaitStates(t, lab, "up up up").Backends[1]; !strings.Contains(b.Reason, "works again") || b.LastError != "" {
		t.Errorf("%+v", b)
	}
	if n := spread(openAll(t, lab, 200, 230)); n["10.0.0.12:8080"] != 10 {
		t.Errorf("new flows went to %v", n)
	}
}

// TestChecksNotRun checks that a check which this host cannot run raises an alarm and changes no
// backend.
func TestChecksNotRun(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), `on_down = "keep"`, "fall = 1\n"))
	lab.Await("the first results", func() bool { return strings.Contains(list(t, lab)[0].Backends[2].Reason, "works") })
	for _, lack := range []error{syscall.EMFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS} {
		fake.setLack(fmt.Errorf("tcp 10.0.0.11:80: %w", lack))
		lab.Await("the alarm", func() bool {
			alarms, err := lab.Engine.Alarms(t.Context())
			return err == nil && len(alarms) == 1 && alarms[0].Kind == api.AlarmNotRun &&
				strings.HasPrefix(alarms[0].Text, "3 health checks cannot be run") && strings.Contains(alarms[0].Text, lack.Error())
		})
		if got := statesOf(list(t, lab)[0]); got != "up up up" {
			t.Errorf("%v: %s", lack, got)
		}
		fake.setLack(nil)
		lab.Await("the end of the alarm", func() bool {
			alarms, err := lab.Engine.Alarms(t.Context())
			return err == nil && len(alarms) == 0
		})
	}
	fake.setLack(syscall.EMFILE)
	fake.setFailing("10.0.0.12")
	lab.Await("the alarm", func() bool {
		alarms, err := lab.Engine.Alarms(t.Context())
		return err == nil && len(alarms) == 1
	})
	fake.setLack(nil)
	awaitStates(t, lab, "up down up")
}

// TestFlapsAreShown: a backend that works and is held down says so.
func TestFlapsAreShown(t *testing.T) {
	t.Parallel()
	s := checked(nat3(), `on_down = "keep"`, "rise = 1\nfall = 1\n")
	s.extra = strings.Replace(s.extra, `flap_hold = "0s"`, `flap_hold = "1h"`, 1)
	lab, fake := checkedLab(t, s)
	for range 4 {
		awaitStates(t, lab, "up up up")
		fake.setFailing("10.0.0.12")
		awaitStates(t, lab, "up down up")
		fake.setFailing()
	}
	lab.Await("the reason", func() bool {
		b := list(t, lab)[0].Backends[1]
		return b.State == api.StateDown && b.LastError == "" && strings.Contains(b.Reason, "flaps")
	})
}

// TestReasonsAreLatest: what an operator's order leaves in the list and in the log has the reason
// that the last check gave, also if the backend has been up since the start.
func TestReasonsAreLatest(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	lab, fake := enginetest.New(t, 1, 1), new(fakeBackends)
	log := new(logBuffer)
	lab.Probe, lab.Log = fake.probe, slog.New(slog.NewTextHandler(log, nil))
	lab.Start(1, config(checked(nat3(), "", "")))
	reason := func() string { return list(t, lab)[0].Backends[0].Reason }
	lab.Await("a first check", func() bool { return strings.Contains(reason(), "works") })

	for _, state := range []string{api.OverrideDrain, api.OverrideEnable} {
		if _, err := lab.Engine.Override(ctx, api.OverrideRequest{Service: "web", Backend: "10.0.0.11:8080", State: state}); err != nil {
			t.Fatal(err)
		}
	}
	if text := log.String(); !strings.Contains(text, "from=drain to=up") || strings.Contains(text, "not checked yet") {
		t.Errorf("the log has the wrong reason:\n%s", text)
	}

	if _, err := lab.Engine.FreezeHealth(ctx, "web", true); err != nil {
		t.Fatal(err)
	}
	if got := reason(); !strings.Contains(got, "frozen") || !strings.Contains(got, "works") {
		t.Errorf("reason while frozen: %q", got)
	}
}

// TestOnDown: flows of a dead backend go elsewhere at once, unless on_down says that they stay.
func TestOnDown(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		s := svc{proto: "udp", port: "53", backends: []string{"10.0.0.11:53", "10.0.0.12:53", "10.0.0.13:53"}}
		if s = checked(s, "", ""); keep {
			s.extra = `on_down = "keep"` + s.extra
		}
		lab, fake := checkedLab(t, s)
		ask := func() map[string]string {
			for n := range 30 {
				lab.Arrive(enginetest.Clients, packettest.UDP(client(n), vip4+":53").Frame())
			}
			lab.Quiet()
			return whereTo(t, lab.Collect())
		}
		before := ask()
		fake.setFailing("10.0.0.12")
		awaitStates(t, lab, "up down up")
		now := ask()
		if n := spread(now)["10.0.0.12:53"]; (n == 0) == keep {
			t.Errorf("keep %v: %d flows at the dead backend", keep, n)
		}
		sameAs(t, before, now, "10.0.0.12:53")
		lab.Close()
	}
}

// TestHealthOnReload: what checks no longer say is down must be up, in the tables too; what they
// still say stays.
func TestHealthOnReload(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), "", ""))
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	for i, c := range []struct {
		to   svc
		want string
	}{
		{checked(nat3(), "", "fall = 9\n"), "up down up"},
		{checked(nat3(), `persistence = "1m"`, ""), "up down up"},
		{nat3(), "up up up"},
		{checked(nat3(), "", ""), "up up up"}, // for now
	} {
		fake.setFailing()
		if i < 2 {
			fake.setFailing("10.0.0.12")
		}
		if _, err := lab.Reload(config(c.to)); err != nil {
			t.Fatal(err)
		}
		if got := statesOf(list(t, lab)[0]); got != c.want {
			t.Errorf("reload %d: %s, want %s", i, got, c.want)
		}
		at := spread(openAll(t, lab, 1000*i, 1000*i+30))["10.0.0.12:8080"]
		if (at > 0) != (c.want == "up up up") {
			t.Errorf("reload %d: %d new flows at the failing backend", i, at)
		}
	}
}

// TestManyFailAtOnce: a few tables serve many changes, whatever their number.
func TestManyFailAtOnce(t *testing.T) {
	slow(t)
	const many = 100
	s := svc{}
	for n := range many {
		s.backends = append(s.backends, fmt.Sprintf("10.0.0.%d:80", 101+n))
	}
	lab := enginetest.New(t, 1, 1)
	arrived, release := make(chan bool, many), make(chan bool)
	lab.Probe = func(ctx context.Context, _ health.Check) error {
		select {
		case arrived <- true: // the first time
		default:
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return errors.New("does not answer")
	}
	lab.Start(1, config(checked(s, "", "fall = 1\nmin_healthy = 0\n")))
	for range many {
		<-arrived
	}
	before := lab.Stats().TablesPublished
	close(release)
	awaitStates(t, lab, strings.TrimSpace(strings.Repeat("down ", many)))
	if n := lab.Stats().TablesPublished - before; n > many/5 {
		t.Errorf("%d tables for %d changes", n, many)
	}
}

// TestProtectedBackends checks that half of a service's backends stay in use when one after the
// other fails, with an alarm until they are back.
func TestProtectedBackends(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), `on_down = "reset"`, ""))
	fake.setFailing("10.0.0.11")
	awaitStates(t, lab, "down up up")
	if got := alarms(t, lab); got != "" {
		t.Errorf("one of three is down: alarms %s", got)
	}
	before := openAll(t, lab, 0, 30)
	fake.setFailing("10.0.0.11", "10.0.0.12")
	s := awaitStates(t, lab, "down down/protected up")
	if got := alarms(t, lab); got != "pool_protected web" || !strings.Contains(s.Backends[1].Reason, "does not answer; stays in use: min_healthy keeps 50 %") {
		t.Errorf("alarms %s; %+v", got, s.Backends[1])
	}
	if n := spread(openAll(t, lab, 100, 130)); n["10.0.0.12:8080"] != 15 || len(n) != 2 {
		t.Errorf("new flows went to %v", n)
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "") // a protected backend's connections are not reset
	fake.setFailing()
	awaitStates(t, lab, "up up up")
	if got := alarms(t, lab); got != "" {
		t.Errorf("alarms %s", got)
	}
}

// TestAllFailAtOnce checks that no backend is taken out, because the checks are the likely cause.
func TestAllFailAtOnce(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), `on_down = "keep"`, ""))
	before := openAll(t, lab, 0, 30)
	fake.setFailing("10.0.0.11", "10.0.0.12", "10.0.0.13")
	awaitStates(t, lab, "down/protected down/protected down/protected")
	if got := alarms(t, lab); got != "pool_protected web" {
		t.Errorf("alarms %s", got)
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
	if n := spread(openAll(t, lab, 100, 130)); len(n) != 3 {
		t.Errorf("new flows went to %v", n)
	}
}

// TestNoneProtected checks that clients are refused with min_healthy 0.
func TestNoneProtected(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), "", "min_healthy = 0\n"))
	fake.setFailing("10.0.0.11", "10.0.0.12", "10.0.0.13")
	awaitStates(t, lab, "down down down")
	if got := alarms(t, lab); got != "no_backend web" {
		t.Errorf("alarms %s", got)
	}
	lab.Send(enginetest.Clients, 0, opening(1).Frame())
	if s := lab.Stats(); s.Replied+s.Drops["no_backend"] != 1 {
		t.Errorf("%+v", s)
	}
}

// TestFreeze: what checks find changes nothing while an operator wants it so, and everything
// afterwards.
func TestFreeze(t *testing.T) {
	slow(t)
	ctx := context.Background()
	lab, fake := checkedLab(t, checked(nat3(), "", ""))
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	for _, name := range []string{"web", ""} {
		frozen, err := lab.Engine.FreezeHealth(ctx, name, true)
		if err != nil || !slices.Equal(frozen, []string{"web"}) {
			t.Fatalf("%v, %v", frozen, err)
		}
		if got, want := alarms(t, lab), strings.TrimSpace("health_frozen "+name); got != want {
			t.Errorf("alarms %q, want %q", got, want)
		}
		fake.setFailing("10.0.0.11")
		lab.Await("errors and successes while health is frozen", func() bool {
			s := list(t, lab)[0]
			return s.Backends[0].LastError != "" && s.Backends[1].LastError == ""
		})
		before := fake.probeCount()
		lab.Await("many more probes", func() bool { return fake.probeCount() > before+30 })
		s := list(t, lab)[0]
		if got := statesOf(s); got != "up down up" || !s.HealthFrozen || !strings.Contains(s.Backends[1].Reason, "frozen") {
			t.Errorf("frozen: %s, %+v", got, s)
		}
		why := fmt.Sprint(explain(t, lab, "tcp 192.0.2.1:5000 "+vip4+":80").Steps)
		if !strings.Contains(why, "10.0.0.11:8080 gets new connections although its last check failed, because the service's health is frozen") {
			t.Errorf("explained by %s", why)
		}
		if name == "" {
			if _, err := lab.Engine.FreezeHealth(ctx, "web", false); err == nil {
				t.Error("one service was unfrozen while all are frozen")
			}
		}
		if frozen, err := lab.Engine.FreezeHealth(ctx, name, false); err != nil || len(frozen) != 0 {
			t.Errorf("%v, %v", frozen, err)
		}
		awaitStates(t, lab, "down up up")
		fake.setFailing("10.0.0.12")
		awaitStates(t, lab, "up down up")
	}
	missing := new(api.NoSuchService)
	if _, err := lab.Engine.FreezeHealth(ctx, "unknown", true); !errors.As(err, &missing) {
		t.Errorf("error %v", err)
	}
}

func (p *fakeBackends) probeCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes
}

// TestSorryServer: it takes new connections while no backend is up, in the mode that it has, and no
// longer.
func TestSorryServer(t *testing.T) {
	slow(t)
	const sorry = "10.0.0.19:8080"
	for _, scheduler := range []string{"rr", "wlc", "sh", "mh"} {
		s := checked(nat3(), `on_down = "keep"`+"\n"+`sorry = { address = "10.0.0.19", port = 8080 }`, "")
		s.sched = scheduler
		lab, fake := checkedLab(t, s)
		if b := list(t, lab)[0].Sorry; b == nil || b.Endpoint() != sorry || b.State != api.StateStandby {
			t.Errorf("%+v", b)
		}
		if n := spread(openAll(t, lab, 0, 30)); n[sorry] != 0 {
			t.Errorf("%s: flows went to %v", scheduler, n)
		}
		fake.setFailing("10.0.0.11", "10.0.0.12", "10.0.0.13")
		awaitStates(t, lab, "down down down")
		if got := alarms(t, lab); got != "no_backend web" {
			t.Errorf("alarms %s", got)
		}
		before := openAll(t, lab, 100, 130)
		if n := spread(before); n[sorry] != 30 {
			t.Errorf("%s: flows went to %v", scheduler, n)
		}
		if b := list(t, lab)[0].Sorry; b.State != api.StateUp || b.Connections != 30 {
			t.Errorf("%+v", b)
		}
		fake.setFailing("10.0.0.11")
		awaitStates(t, lab, "down up up")
		if n := spread(openAll(t, lab, 200, 230)); n[sorry] != 0 {
			t.Errorf("%s: flows went to %v", scheduler, n)
		}
		sameAs(t, before, goOn(t, lab, 100, 130), "")
		lab.Close()
	}
}

// TestSorryWhenDrained: a service that an operator has emptied has its sorry server too, without an
// alarm.
func TestSorryWhenDrained(t *testing.T) {
	s := svc{backends: []string{"10.0.0.11:80 0"}, extra: `sorry = { address = "10.0.0.19" }`}
	lab, _ := checkedLab(t, s)
	if n := spread(openAll(t, lab, 0, 5)); n["10.0.0.19:80"] != 5 || alarms(t, lab) != "" {
		t.Errorf("flows went to %v, alarms %s", n, alarms(t, lab))
	}
}

// TestSlowStart: a backend that comes back has a part of its weight first, and all of it when
// slow_start is over.
func TestSlowStart(t *testing.T) {
	slow(t)
	slowly := func(time string) svc {
		s := checked(nat3(), `on_down = "keep"`+"\n"+`slow_start = "`+time+`"`, "")
		s.sched = "wrr"
		return s
	}
	lab, fake := checkedLab(t, slowly("1h"))
	if n := spread(openAll(t, lab, 0, 30)); n["10.0.0.12:8080"] != 10 {
		t.Errorf("at the start flows went to %v", n)
	}
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	fake.setFailing()
	if b := awaitStates(t, lab, "up up up").Backends[1]; b.SlowStart != 1.0/16 || b.Weight != 1 {
		t.Errorf("%+v", b)
	}
	if n := spread(openAll(t, lab, 100, 430)); n["10.0.0.12:8080"] != 10 {
		t.Errorf("flows went to %v", n)
	}
	if _, err := lab.Reload(config(slowly("1s"))); err != nil {
		t.Fatal(err)
	}
	lab.Await("the whole weight", func() bool { return list(t, lab)[0].Backends[1].SlowStart == 0 })
	if n := spread(openAll(t, lab, 1000, 1030)); n["10.0.0.12:8080"] != 10 {
		t.Errorf("afterwards flows went to %v", n)
	}
	with := slowly("1h")
	with.backends = append(with.backends, "10.0.0.14:8080")
	if _, err := lab.Reload(config(with)); err != nil {
		t.Fatal(err)
	}
	if all := list(t, lab)[0].Backends; all[3].SlowStart != 1.0/16 || all[0].SlowStart != 0 {
		t.Errorf("a new backend: %+v", all)
	}
}

// TestWordsOfAPI checks that the words of policy and override are those of the API, which neither
// of them imports.
func TestWordsOfAPI(t *testing.T) {
	for _, words := range [][2][]string{
		{{policy.Up, policy.Down, policy.Drain, policy.Standby}, {api.StateUp, api.StateDown, api.StateDrain, api.StateStandby}},
		{{policy.AlarmProtected, policy.AlarmNoBackend, policy.AlarmUnreachable, policy.AlarmDirect, policy.AlarmNotRun, policy.AlarmDetached, policy.AlarmToKernel, policy.AlarmFrozen, api.AlarmStuck, api.AlarmPressure, api.AlarmFirst}, api.AlarmKinds()},
		{{string(override.Weight), string(override.Drain), string(override.Disable)}, {api.OverrideWeight, api.OverrideDrain, api.OverrideDisable}},
	} {
		if !slices.Equal(words[0], words[1]) {
			t.Errorf("%q differ from the API's %q", words[0], words[1])
		}
	}
	if override.MaxWeight != api.MaxWeight {
		t.Errorf("the greatest weight is %d, in the API %d", override.MaxWeight, api.MaxWeight)
	}
}
