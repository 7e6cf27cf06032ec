package engine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// openAll opens flows from..to-1 and tells which backend each has.
func openAll(t *testing.T, lab *enginetest.Lab, from, to int) map[string]string {
	t.Helper()
	for n := from; n < to; n++ {
		lab.Arrive(enginetest.Clients, opening(n).Frame())
	}
	lab.Quiet()
	return whereTo(t, lab.Collect())
}

// goOn sends a further packet of each flow.
func goOn(t *testing.T, lab *enginetest.Lab, from, to int) map[string]string {
	t.Helper()
	for n := from; n < to; n++ {
		lab.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
	}
	lab.Quiet()
	return whereTo(t, lab.Collect())
}

func whereTo(t *testing.T, sent []enginetest.Sent) map[string]string {
	t.Helper()
	behind := make(map[string]string)
	for _, s := range sent {
		m := parse(t, s.Frame)
		behind[at(m.Src.String(), int(m.SrcPort))] = at(m.Dst.String(), int(m.DstPort))
	}
	return behind
}

// spread counts flows per backend.
func spread(behind map[string]string) map[string]int {
	n := make(map[string]int)
	for _, backend := range behind {
		n[backend]++
	}
	return n
}

// sameAs checks that every flow of before that is not excepted goes where it went.
func sameAs(t *testing.T, before, now map[string]string, except string) {
	t.Helper()
	for from, backend := range before {
		if got := now[from]; got != backend && (except == "" || backend != except) {
			t.Errorf("%s went to %s, now to %q", from, backend, got)
		}
	}
}

// TestReloadKeepsConnections: whatever changes around them, connections stay with their backends.
func TestReloadKeepsConnections(t *testing.T) {
	t.Parallel()
	all := []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"}
	for _, test := range []struct {
		name string
		to   svc
	}{
		{"nothing", svc{backends: all}},
		{"order", svc{backends: []string{all[2], all[0], all[1]}}},
		{"scheduler", svc{backends: all, sched: "mh"}},
		{"weights", svc{backends: []string{all[0] + " 5", all[1] + " 0", all[2] + " 2"}}},
		{"more backends", svc{backends: append(slices.Clone(all), "10.0.0.14:80", "10.0.0.15:80")}},
		{"name", svc{name: "other", backends: all}},
		{"timeouts", svc{backends: all, extra: "[service.timeouts]\ntcp_established = \"1h\""}},
	} {
		for _, workers := range []int{1, 2} {
			t.Run(fmt.Sprint(test.name, " ", workers), func(t *testing.T) {
				if workers == 1 {
					slow(t)
				}
				lab := enginetest.New(t, 2, 2)
				lab.Start(workers, config(svc{backends: all}))
				before := openAll(t, lab, 0, 90)
				if _, err := lab.Reload(config(test.to)); err != nil {
					t.Fatal(err)
				}
				sameAs(t, before, goOn(t, lab, 0, 90), "")
				dropped(t, lab.Stats(), "none", 0)
			})
		}
	}
}

// TestPersistenceTurnedOn: connections made before stay where they are, turned on and off again.
func TestPersistenceTurnedOn(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	before := openAll(t, lab, 0, 90)
	sticky := nat3()
	sticky.extra = `persistence = "5m"`
	for _, s := range []svc{sticky, nat3()} {
		if _, err := lab.Reload(config(s)); err != nil {
			t.Fatal(err)
		}
		sameAs(t, before, goOn(t, lab, 0, 90), "")
	}
}

// TestBackendRemoved: its connections go on, and new ones go elsewhere. When it comes back it has
// its connections and its counters.
func TestBackendRemoved(t *testing.T) {
	t.Parallel()
	const gone = "10.0.0.12:8080"
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	before := openAll(t, lab, 0, 90)
	result, err := lab.Reload(config(svc{backends: []string{"10.0.0.11:8080", "10.0.0.13:8080"}}))
	if err != nil || len(result.Changes) != 1 || !strings.Contains(result.Changes[0], gone) {
		t.Errorf("%+v, %v", result, err)
	}
	sameAs(t, before, goOn(t, lab, 0, 90), "")
	for from, backend := range before {
		if backend == gone {
			lab.Arrive(enginetest.Backends, packettest.TCP(gone, from).Flags(syn|ack).Frame())
		}
	}
	lab.Quiet()
	of := spread(before)[gone]
	if sent := lab.Collect(); len(sent) != of || of == 0 {
		t.Errorf("%d of %d replies of the removed backend were sent", len(sent), of)
	}
	if !slices.ContainsFunc(lab.Steered().Replies, func(k service.Key) bool { return k.Address.String() == "10.0.0.12" }) {
		t.Errorf("the removed backend's replies are not steered: %v", lab.Steered().Replies)
	}
	dropped(t, lab.Stats(), "none", 0)
	conns, err := lab.Engine.Conns(bg, api.ConnQuery{Backend: gone})
	if err != nil || len(conns) != spread(before)[gone] {
		t.Errorf("%d connections of it are listed: %v", len(conns), err)
	}
	if n := spread(openAll(t, lab, 1000, 1030)); n[gone] != 0 || len(n) != 2 {
		t.Errorf("new flows went to %v", n)
	}
	if _, err := lab.Reload(config(nat3())); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before, goOn(t, lab, 0, 90), "")
	had := uint64(spread(before)[gone])
	for _, b := range list(t, lab)[0].Backends {
		if b.Endpoint() == gone && (b.Connections != had || b.Packets != 3*had) {
			t.Errorf("the counters of the backend were lost: %+v", b)
		}
	}
}

// TestBackendRemovedReset: with on_remove = "reset" both ends of its connections are reset.
func TestBackendRemovedReset(t *testing.T) {
	t.Parallel()
	const gone = "10.0.0.12:8080"
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	before := openAll(t, lab, 0, 30)
	goOn(t, lab, 0, 30) // what is not established ends at once, without a reset
	if _, err := lab.Reload(config(svc{backends: []string{"10.0.0.11:8080", "10.0.0.13:8080"}, extra: `on_remove = "reset"`})); err != nil {
		t.Fatal(err)
	}
	lab.Quiet() // the worker has the new tables
	resets := 0
	for n := range 30 {
		lab.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
	}
	lab.Quiet() // the connections end
	for from, backend := range before {
		if backend == gone {
			lab.Arrive(enginetest.Backends, packettest.TCP(gone, from).Flags(ack).Frame())
		}
	}
	lab.Quiet()
	for _, s := range lab.Collect() {
		if m := parse(t, s.Frame); m.TCPFlags&rst != 0 {
			resets++
		}
	}
	if want := 2 * spread(before)[gone]; resets != want || want == 0 {
		t.Errorf("%d resets, want %d", resets, want)
	}
}

// TestFormerBackendEnds: when the last connection of a removed backend, or of a source of fullnat,
// has ended, its replies are no longer steered. A service's counters remain.
func TestFormerBackendEnds(t *testing.T) {
	slow(t)
	short := "[service.timeouts]\nudp = \"1s\"\n"
	nat := svc{name: "dns", proto: "udp", port: "53", extra: short, backends: []string{"10.0.0.11:53", "10.0.0.12:53"}}
	full := svc{name: "full", vip: "198.51.100.11", proto: "udp", port: "53", mode: "fullnat",
		extra: "source = [\"10.0.0.2\", \"10.0.0.3\"]\n" + short, backends: []string{"10.0.0.13:53"}}
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat, full))
	for n := range 20 {
		for _, vip := range []string{vip4, full.vip} {
			lab.Arrive(enginetest.Clients, packettest.UDP(client(n), at(vip, 53)).Frame())
		}
	}
	lab.Quiet()
	lab.Collect()
	nat.backends = nat.backends[:1]
	full.extra = "source = [\"10.0.0.3\"]\n" + short
	if _, err := lab.Reload(config(nat, full)); err != nil {
		t.Fatal(err)
	}
	steered := func() (replies, sources int) {
		for _, at := range lab.Steered().Replies {
			if at.Address.String() == "10.0.0.12" {
				replies++
			}
		}
		for _, at := range lab.Steered().Pools {
			if at.Address.String() == "10.0.0.2" {
				sources++
			}
		}
		return replies, sources
	}
	if replies, sources := steered(); replies == 0 || sources == 0 {
		t.Errorf("with connections %d rules steer replies of the removed backend, and %d those to the removed source", replies, sources)
	}
	lab.Await("the end of the rules", func() bool { replies, sources := steered(); return replies+sources == 0 })
	if got := list(t, lab)[0]; got.Connections != 20 || got.Packets != 20 || got.Backends[0].Connections != 10 {
		t.Errorf("the service's counters: %+v", got)
	}
	nat.backends = append(nat.backends, "10.0.0.14:53")
	if _, err := lab.Reload(config(nat, full)); err != nil {
		t.Fatal(err)
	}
	if got := list(t, lab)[0]; got.Connections != 20 || got.Backends[1].Connections != 0 {
		t.Errorf("a new backend has the counters of a former one: %+v", got)
	}
}

// TestServiceRemoved: its traffic is dropped, the others' goes on; its replies too, as in IPVS.
func TestServiceRemoved(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	other := svc{name: "other", port: "81", backends: []string{"10.0.0.14:80"}}
	lab.Start(1, config(nat3(), other))
	before := openAll(t, lab, 0, 3)
	if _, err := lab.Reload(config(other)); err != nil {
		t.Fatal(err)
	}
	if now := goOn(t, lab, 0, 3); len(now) != 0 {
		t.Errorf("flows of a removed service went on: %v", now)
	}
	if s := lab.Stats(); s.Dropped() != 3 {
		t.Errorf("%v", s.Drops)
	}
	if _, err := lab.Reload(config(nat3(), other)); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before, goOn(t, lab, 0, 3), "")
}

// TestBadReloads: neither a file with errors nor a refusal by the steering program changes
// anything.
func TestBadReloads(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	before, steered := openAll(t, lab, 0, 9), lab.Steered()
	check := func(why string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", why)
		}
		sameAs(t, before, goOn(t, lab, 0, 9), "")
		if n := spread(openAll(t, lab, 100, 109)); n["10.0.0.11:8080"] != 3 || len(n) != 3 {
			t.Errorf("%s: new flows went to %v", why, n)
		}
		if s := list(t, lab); len(s) != 1 || len(s[0].Backends) != 3 {
			t.Errorf("%s: %+v", why, s)
		}
		if got := lab.Steered(); len(got.Services) != len(steered.Services) || len(got.Replies) != len(steered.Replies) {
			t.Errorf("%s: steered %+v", why, got)
		}
		for n := 100; n < 109; n++ { // their places are wanted again
			lab.Arrive(enginetest.Clients, opening(n).Flags(rst).Frame())
		}
		lab.Quiet()
		lab.Collect()
	}
	_, err := lab.Reload("this is no TOML")
	check("syntax", err)
	_, err = lab.Reload(config(svc{backends: []string{"10.0.0.11:8080", "10.0.0.11:8080"}}))
	check("duplicate", err)
	lab.RefuseSteering(errors.New("map is full"))
	_, err = lab.Reload(config(nat3(), svc{name: "more", port: "81", backends: []string{"10.0.0.14:80"}}))
	check("steering", err)
	lab.RefuseSteering(nil)
	if result, err := lab.Reload(config(nat3())); err != nil || len(result.Changes) != 0 {
		t.Errorf("a good file afterwards: %+v, %v", result, err)
	}
}

// TestReloadWarnsOfRestart: what can only change at a start is kept as it is, and said.
func TestReloadWarnsOfRestart(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	result, err := lab.Reload("[api]\nhttp = \"127.0.0.1:9999\"\n" + config(nat3()))
	if err != nil || len(result.Changes) != 0 || len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "start") {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestReloadsUnderTraffic: a thousand reloads, some of which take a service in use away, move no
// flow of the others (C07).
func TestReloadsUnderTraffic(t *testing.T) {
	slow(t)
	reloads := 1000
	if raceDetector {
		reloads = 200
	}
	lab := enginetest.New(t, 2, 2)
	other := svc{name: "other", vip: "198.51.100.11", backends: []string{"10.0.0.14:80"}}
	lab.Start(2, config(nat3(), other))
	before := openAll(t, lab, 0, 60)
	for i := range reloads {
		text := config(nat3(), other)
		if i%2 == 0 {
			text = config(nat3())
		}
		if _, err := lab.Reload(text); err != nil {
			t.Fatal(err)
		}
		lab.Arrive(enginetest.Clients, opening(i%60).Flags(ack).Frame())
	}
	lab.Quiet()
	sent := lab.Collect()
	if len(sent) != reloads {
		t.Errorf("%d of %d packets went on", len(sent), reloads)
	}
	sameAs(t, before, goOn(t, lab, 0, 60), "")
}

// TestClientPortOfRemovedBackend: a client uses the port of a connection to a removed backend
// again. In nat its first SYN gets no answer from there, and it reaches another backend when it
// repeats the SYN. In tun and dr it is asked, and reaches another backend when it does not have the
// old connection any more.
func TestClientPortOfRemovedBackend(t *testing.T) {
	slow(t)
	t.Parallel()
	for _, mode := range []string{"nat", "tun", "dr"} {
		all := []string{"10.0.0.11", "10.0.0.12"}
		lab := enginetest.New(t, 2, 2)
		lab.Start(2, config(svc{mode: mode, backends: all}))
		host := func(p packettest.Packet) string {
			t.Helper()
			return fmt.Sprint("10.0.0.", one(t, lab.Send(enginetest.Clients, 0, p.Frame())).Frame[5])
		}
		old := host(opening(1))
		host(opening(1).Flags(ack))
		left := slices.DeleteFunc(all, func(b string) bool { return b == old })
		if _, err := lab.Reload(config(svc{mode: mode, backends: left})); err != nil {
			t.Fatal(err)
		}
		if got := host(opening(1).Flags(ack)); got != old {
			t.Errorf("%s: the connection goes on at %s, not at %s", mode, got, old)
		}
		sent := lab.Send(enginetest.Clients, 0, opening(1).Frame())
		for _, s := range sent {
			if got := fmt.Sprint("10.0.0.", s.Frame[5]); s.Port == enginetest.Backends && got != old {
				t.Errorf("%s: the first SYN goes to %s, not to %s", mode, got, old)
			}
		}
		if mode == "nat" {
			time.Sleep(600 * time.Millisecond) // the client's timer
		} else {
			lab.Send(enginetest.Clients, 0, opening(1).Flags(rst).Seq(askedFor(t, lab, sent), 0).Frame())
		}
		if got := host(opening(1)); got != left[0] {
			t.Errorf("%s: the second SYN goes to %s, not to %s", mode, got, left[0])
		}
		lab.Close()
	}
}

// askedFor returns the number that the RST of a client must have that is asked about its
// connection. sent are frames that were sent already.
func askedFor(t *testing.T, lab *enginetest.Lab, sent []enginetest.Sent) (number uint32) {
	t.Helper()
	lab.Await("the client to be asked", func() bool {
		for _, s := range append(sent, lab.Collect()...) {
			if s.Port == enginetest.Clients {
				number = binary.BigEndian.Uint32(s.Frame[14+20+8:]) // behind Ethernet and IPv4: Ack
				return true
			}
		}
		return false
	})
	return number
}
