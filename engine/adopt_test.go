package engine_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestAdoptAfterRestart checks that tun and dr connections by mh outlive the engine: it is closed
// and started again without state, and each segment goes to the backend that its SYN went to.
func TestAdoptAfterRestart(t *testing.T) {
	for _, mode := range []string{"tun", "dr"} {
		for workers, vip := range map[int]string{1: vip4, 2: vip6} {
			t.Run(fmt.Sprint(mode, workers), func(t *testing.T) {
				t.Parallel()
				s := svc{vip: vip, mode: mode, sched: "mh"}
				for n := 11; n < 15; n++ {
					s.backends = append(s.backends, at(fmt.Sprintf(form(vip), n), 80))
				}
				client := func(n int) string { return at(fmt.Sprintf("192.0.2.%d", 1+n/5), 2000+n) }
				if vip == vip6 {
					client = func(n int) string { return at(fmt.Sprintf("2001:db8:9::%x", 1+n/5), 2000+n) }
				}
				const flows = 1000
				round := func(p func(from string) packettest.Packet) (macs map[string]string) {
					lab := enginetest.New(t, workers, workers)
					defer lab.Close()
					lab.Start(workers, config(s))
					macs = make(map[string]string)
					for n := range flows {
						sent := lab.Send(enginetest.Clients, n%workers, p(client(n)).Frame())
						if len(sent) != 1 || sent[0].Port != enginetest.Backends {
							t.Fatalf("connection %d: %d frames, or not to a backend", n, len(sent))
						}
						macs[client(n)] = string(sent[0].Frame[:6])
					}
					if n := lab.Stats(); n.Replied != 0 || n.Rx != n.Forwarded {
						t.Errorf("%+v", n)
					}
					return macs
				}
				to := at(vip, 80)
				opened := round(func(from string) packettest.Packet { return packettest.TCP(from, to).Flags(syn) })
				after := round(func(from string) packettest.Packet { return packettest.TCP(from, to) })
				used := make(map[string]bool)
				for client, mac := range opened {
					if used[mac] = true; after[client] != mac {
						t.Errorf("%s: to %x, before the restart to %x", client, after[client], mac)
					}
				}
				if len(used) != 4 {
					t.Errorf("%d backends were used", len(used))
				}
			})
		}
	}
}

// TestEarlierBackends checks that after a reload with another backend, segments of connections that
// the engine does not know go to the backend from before, and new connections to the present one.
func TestEarlierBackends(t *testing.T) {
	s := svc{mode: "dr", sched: "mh", backends: []string{"10.0.0.11:80", "10.0.0.12:80"}}
	backendOf := func(lab *enginetest.Lab, p packettest.Packet) string {
		t.Helper()
		return string(one(t, lab.Send(enginetest.Clients, 0, p.Frame())).Frame[:6])
	}
	client := func(n int) string {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 999).String()
	}
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(s))
	s.backends = append(s.backends, "10.0.0.13:80")
	fresh := enginetest.New(t, 1, 1)
	fresh.Start(1, config(s))
	var before []string
	for n := range 100 {
		before = append(before, backendOf(lab, packettest.TCP(client(n), vip4+":80").Flags(syn)))
	}
	if _, err := lab.Reload(strings.Replace(config(s), "name = \"web\"", "name = \"web\"\nadopt = \"hash\"", 1)); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for n := range 100 {
		// an equal address has an equal choice
		other := func(port string) string { return strings.Replace(client(n), ":999", ":"+port, 1) }
		now := backendOf(fresh, packettest.TCP(other("1000"), vip4+":80").Flags(syn))
		if got := backendOf(lab, packettest.TCP(other("1000"), vip4+":80").Flags(syn)); got != now {
			t.Errorf("new connection of %s: to %x, want %x", client(n), got, now)
		}
		if got := backendOf(lab, packettest.TCP(other("1001"), vip4+":80")); got != before[n] {
			t.Errorf("unknown connection of %s: to %x, before the change to %x", client(n), got, before[n])
		}
		if now != before[n] {
			moved++
		}
	}
	if moved == 0 {
		t.Error("the reload moved no client")
	}
}

// TestHandshakesOverChanges checks that a flow that has sent its first packet before a change of
// the service goes on at the same backend after it: TCP with a repeated SYN and without, and UDP.
func TestHandshakesOverChanges(t *testing.T) {
	mh := svc{mode: "dr", sched: "mh", backends: []string{"10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80"}}
	with := func(change func(s *svc)) svc {
		s := mh
		change(&s)
		return s
	}
	disable := func(t *testing.T, lab *enginetest.Lab, backend string) {
		t.Helper()
		if _, err := lab.Engine.Override(t.Context(), api.OverrideRequest{Service: "web", Backend: backend, State: api.OverrideDisable}); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		disabled string // before the first packets
		after    svc
	}{
		"scheduler":         {after: with(func(s *svc) { s.sched = "rr" })},
		"never":             {after: with(func(s *svc) { s.extra = "adopt = \"never\"" })},
		"hash":              {after: with(func(s *svc) { s.extra = "hash = \"address-port\"" })},
		"persistence":       {after: with(func(s *svc) { s.extra = "persistence = \"1m\"" })},
		"limits":            {after: with(func(s *svc) { s.extra = "[service.limits]\nconnections = 900" })},
		"mode":              {after: with(func(s *svc) { s.mode = "tun" })},
		"removed":           {after: with(func(s *svc) { s.backends = s.backends[1:] })},
		"added":             {after: with(func(s *svc) { s.backends = append(slices.Clone(s.backends), "10.0.0.14:80") })},
		"down then removed": {disabled: "10.0.0.13:80", after: with(func(s *svc) { s.backends = s.backends[1:] })},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			t.Run(name+" "+proto, func(t *testing.T) {
				t.Parallel()
				before, after := mh, c.after
				before.proto, after.proto = proto, proto
				lab := enginetest.New(t, 2, 2)
				lab.Start(2, config(before))
				if c.disabled != "" {
					disable(t, lab, c.disabled)
				}
				hostOf := func(n int, flags uint8) string {
					t.Helper()
					p := packettest.TCP(client(n), vip4+":80").Flags(flags)
					if proto == "udp" {
						p = packettest.UDP(client(n), vip4+":80")
					}
					return string(one(t, lab.Send(enginetest.Clients, n%2, p.Frame())).Frame[:6])
				}
				var hosts []string
				for n := range 100 {
					hosts = append(hosts, hostOf(n, syn))
				}
				if _, err := lab.Reload(config(after)); err != nil {
					t.Fatal(err)
				}
				for n, host := range hosts {
					if n%2 == 0 && hostOf(n, syn) != host {
						t.Errorf("client %d: the repeated SYN goes to another backend", n)
					}
					if hostOf(n, ack) != host {
						t.Errorf("client %d: the second segment goes to another backend", n)
					}
				}
			})
		}
	}
}
