package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// hashing returns a service with scheduler mh and adopt = "hash".
func hashing(vip string, mode service.Mode) svc {
	return svc{vip: vip, mode: mode, sched: "mh", adopt: true, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}, {host: 13, port: 80}}}
}

// clientOf returns the n-th client of a family.
func clientOf(vip string, n int) string {
	if vip == vip6 {
		return fmt.Sprintf("[2001:db8:9::%x]:%d", 1+n, 1024+n)
	}
	return fmt.Sprintf("192.0.2.%d:%d", 1+n%250, 1024+n)
}

// hostOf returns the number of the backend that a frame was sent to.
func hostOf(o outcome) int { return int(o.Mem[o.Start+5]) }

// TestAdopt checks that connections in tun and dr outlive the loss of all state: each segment goes
// to the backend that the SYN went to, and opens a connection at the worker that owns the flow.
func TestAdopt(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, own := range []pipeline.Ownership{pipeline.ByFlow, pipeline.ByAddress, pipeline.ByReceiver, pipeline.ByFlowNow} {
			for _, moved := range []bool{false, true} {
				for _, vip := range []string{vip4, vip6} {
					s := hashing(vip, []service.Mode{service.TUN, service.DR}[workers/2])
					s.own, s.moved = own, moved
					before, after := newWorlds(t, workers, 256, s), newWorlds(t, workers, 256, s)
					for n := range 60 {
						client, at := clientOf(vip, n), n%workers
						opened := before.raw(at, front, packettest.TCP(client, port(vip, "80")).Flags(syn).Frame())
						before.raw(at, front, packettest.TCP(client, port(vip, "80")).Frame())
						o := after.raw(at, front, packettest.TCP(client, port(vip, "80")).Frame())
						after.ends(o, "forward")
						if fast := workers == 1 || own == pipeline.ByFlow && !moved && o.Hops == 0; fast && !o.TookFastPath() {
							t.Errorf("%d workers, %v: %s is adopted on the slow path", workers, own, client)
						}
						if hostOf(o) != hostOf(opened) {
							t.Fatalf("%s: host %d, before the restart %d", client, hostOf(o), hostOf(opened))
						}
						if own == pipeline.ByReceiver && o.owner != at {
							t.Errorf("worker %d opened what worker %d received", o.owner, at)
						}
						// the next one needs no question to other workers
						hops := int(after.raw(at, front, packettest.TCP(client, port(vip, "80")).Frame()).Hops)
						if hops > 1 || own == pipeline.ByReceiver && hops > 0 {
							t.Errorf("%v, moved %t: an adopted connection's segment makes %d hops", own, moved, hops)
						}
					}
					opened := 0
					for w := range workers {
						for _, c := range after.entries(w, map[string]int{vip4: 4, vip6: 6}[vip]) {
							if opened++; c.State != conn.Established {
								t.Errorf("state %s", c.State)
							}
						}
					}
					if n := after.sum(); opened != 60 || n.Adopted != 60 || n.Untracked != 0 || n.Replied != 0 {
						t.Errorf("%d connections, %+v", opened, n)
					}
					before.sum()
				}
			}
		}
	}
}

// TestAdoptLimit checks that segments beyond the limit go to the same backend without a connection,
// and so do those that find no space in the table.
func TestAdoptLimit(t *testing.T) {
	for _, test := range []struct{ capacity, adopted int }{{1024, adoptPerSecond}, {10, 10}} {
		w, other := newWorlds(t, 1, test.capacity, hashing(vip4, service.TUN)), newWorlds(t, 1, 1024, hashing(vip4, service.TUN))
		w.pass(2000)
		for n := range 3 * adoptPerSecond {
			client := clientOf(vip4, n)
			o := w.in(packettest.TCP(client, web4))
			w.procs[0].ProveAll() // so that it is not removed for the next one
			w.ends(o, "forward")
			if want := hostOf(other.in(packettest.TCP(client, web4).Flags(syn))); o.String() == "forward" && hostOf(o) != want {
				t.Fatalf("%s: host %d, want %d", client, hostOf(o), want)
			}
		}
		if n := w.sum(); n.Adopted != uint64(test.adopted) || n.Untracked != uint64(3*adoptPerSecond-test.adopted) {
			t.Errorf("capacity %d: %d adopted, %d untracked", test.capacity, n.Adopted, n.Untracked)
		}
	}
}

// TestAdoptEarlier checks that after a change of the backends, segments of unknown connections go
// to the backend from before unless its connections have ended, and new connections to the present
// one.
func TestAdoptEarlier(t *testing.T) {
	few := hashing(vip4, service.DR)
	few.backends[2].gone = true
	before := newWorld(t, few)
	many := hashing(vip4, service.DR)
	ids := before.tables.Services[1].Backends
	many.earlier = &pipeline.Choice{Scheduler: before.tables.Services[1].Scheduler, Backends: ids}
	w, evicting := newWorld(t, many), many
	evicting.backends = append([]backend(nil), many.backends...)
	evicting.backends[0].down, evicting.backends[0].evict = true, true
	ended, fresh := newWorld(t, evicting), newWorld(t, hashing(vip4, service.DR))
	moved := 0
	for n := range 90 {
		client := clientOf(vip4, n)
		was := hostOf(before.in(packettest.TCP(client, web4).Flags(syn)))
		is := hostOf(fresh.in(packettest.TCP(client, web4).Flags(syn)))
		if was != is {
			moved++
		}
		if got := hostOf(w.in(packettest.TCP(client, web4))); got != was {
			t.Errorf("%s: an unknown connection goes to host %d, before the change to %d", client, got, was)
		}
		opening := clientOf(vip4, n+1000)
		want := hostOf(fresh.in(packettest.TCP(opening, web4).Flags(syn)))
		if got := hostOf(w.in(packettest.TCP(opening, web4).Flags(syn))); got != want {
			t.Errorf("%s: a new connection goes to host %d, want %d", opening, got, want)
		}
		if got := hostOf(ended.in(packettest.TCP(client, web4))); got == 11 || was != 11 && got != was {
			t.Errorf("%s: host %d, before host 11 went down %d", client, got, was)
		}
	}
	if moved == 0 {
		t.Error("the change moved no client: the test shows nothing")
	}
}

// TestAdoptOthers checks what is forwarded without a connection: RST, and ICMP errors. Segments
// that cannot be are answered as before, and so are all of services that do not adopt.
func TestAdoptOthers(t *testing.T) {
	w := newWorld(t, hashing(vip4, service.TUN))
	host := hostOf(w.in(packettest.TCP(client4, web4)))
	w = newWorld(t, hashing(vip4, service.TUN))
	for _, p := range []packettest.Packet{
		packettest.TCP(client4, web4).Flags(rst), packettest.TCP(client4, web4).Flags(rst | ack),
		packettest.ICMP(transit4, vip4, 3, 4, 1400, packettest.TCP(web4, client4).Payload([]byte("answer")).IP()),
	} {
		if o := w.in(p); o.String() != "forward" || hostOf(o) != host {
			t.Errorf("%s to host %d, want forward to %d", o, hostOf(o), host)
		}
	}
	if n := w.sum(); n.Untracked != 3 || n.ConnOpened != 0 {
		t.Errorf("%+v", n)
	}
	w.ends(w.in(packettest.TCP(client4, web4).TTL(1)), "reply")

	down := hashing(vip4, service.TUN)
	for i := range down.backends {
		down.backends[i].down, down.backends[i].evict = true, true
	}
	w = newWorld(t, down)
	// ICMP, not RST: the connection may live on
	w.ends(w.in(packettest.TCP(client4, web4)), "reply")

	never := hashing(vip4, service.TUN)
	never.adopt = false
	w = newWorld(t, never)
	w.ends(w.in(packettest.TCP(client4, web4)), "reply")
	w.ends(w.in(packettest.TCP(client4, web4).Flags(rst)), "no_connection")
}

// TestAdoptPersistence checks that a client with a template keeps the backend of the template.
func TestAdoptPersistence(t *testing.T) {
	s := hashing(vip4, service.DR)
	s.persistMs, s.own = 60_000, pipeline.ByAddress
	w := newWorld(t, s)
	host := hostOf(w.in(packettest.TCP("192.0.2.9:1000", web4).Flags(syn)))
	for i := range s.backends {
		s.backends[i].drain = s.backends[i].host == host
	}
	w.configure(s)
	if o := w.in(packettest.TCP("192.0.2.9:2000", web4)); o.String() != "forward" || hostOf(o) != host {
		t.Errorf("%s to host %d, the template has %d", o, hostOf(o), host)
	}
	if w.sum().Adopted != 1 {
		t.Error("not adopted")
	}
}
