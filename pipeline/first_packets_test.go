package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// firstAndNext returns the first packet of a flow, and a later one.
func firstAndNext(proto service.Protocol, client, vip string) (first, next packettest.Packet) {
	if proto == service.UDP {
		return packettest.UDP(client, port(vip, "80")), packettest.UDP(client, port(vip, "80"))
	}
	return packettest.TCP(client, port(vip, "80")).Flags(syn), packettest.TCP(client, port(vip, "80"))
}

// TestFirstPackets checks that the first packet of a flow takes no entry where a hash names the
// backend, and that the second one opens the connection at the same backend, at the worker that
// owns the flow and without a question to the others.
func TestFirstPackets(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, own := range []pipeline.Ownership{pipeline.ByFlow, pipeline.ByReceiver, pipeline.ByFlowNow} {
			for _, mode := range []service.Mode{service.TUN, service.DR} {
				for _, proto := range []service.Protocol{service.TCP, service.UDP} {
					for _, vip := range []string{vip4, vip6} {
						t.Run(fmt.Sprint(workers, own, mode, proto, vip), func(t *testing.T) {
							s := hashing(vip, mode)
							s.own, s.moved, s.proto = own, own == pipeline.ByFlowNow, proto
							w := newWorlds(t, workers, 256, s)
							for n := range 40 {
								w.slowOnly = n%2 == 1
								w.checkFirst(n%workers, proto, clientOf(vip, n), vip)
							}
							if n := w.sum(); n.ConnOpened != 40 || n.Adopted != 0 || n.Dropped()+n.Replied != 0 {
								t.Errorf("%+v", n)
							}
							if first, second := w.firsts(); first != 40 || second != 40 {
								t.Errorf("%d flows with a first packet are counted, %d with a second one", first, second)
							}
						})
					}
				}
			}
		}
	}
}

// firsts returns how many first and second packets to the first service the workers have counted.
func (w *world) firsts() (first, second uint64) {
	for _, p := range w.procs {
		first, second = first+p.Services[1].First, second+p.Services[1].Second
	}
	return first, second
}

// TestFirstSources checks that the source prefixes of first packets are counted by a sample, also
// on the slow path.
func TestFirstSources(t *testing.T) {
	const n = 4000
	for _, slow := range []bool{false, true} {
		for _, vip := range []string{vip4, vip6} {
			w := newWorlds(t, 1, 64, hashing(vip, service.DR))
			w.slowOnly = slow
			for i := range n {
				w.ends(w.in(packettest.TCP(clientOf(vip, i), port(vip, "80")).Flags(syn)), "forward")
			}
			counted := uint32(0)
			for _, c := range w.procs[0].First.All() {
				counted += c.Count - c.Over
			}
			if first, second := w.firsts(); first != n || second != 0 || counted < n/2 || counted > 2*n {
				t.Errorf("%s, slow %v: %d first packets, %d second ones, %d by prefix", vip, slow, first, second, counted)
			}
		}
	}
}

// checkFirst sends the first packets of a flow to a worker. A SYN is repeated.
func (w *world) checkFirst(at int, proto service.Protocol, client, vip string) {
	w.t.Helper()
	first, next := firstAndNext(proto, client, vip)
	repeats := 2
	if proto == service.UDP {
		repeats = 1
	}
	host, opened, untracked := 0, w.sum().ConnOpened, w.sum().Untracked
	for i := range repeats {
		o := w.raw(at, front, first.Frame())
		w.ends(o, "forward")
		if i > 0 && hostOf(o) != host {
			w.t.Errorf("%s: the repeated SYN goes to host %d, the first to %d", client, hostOf(o), host)
		}
		if host = hostOf(o); int(o.Untracked()) != host-10 {
			w.t.Errorf("untracked to backend %d, sent to host %d", o.Untracked(), host)
		}
	}
	if n := w.sum(); n.ConnOpened != opened || n.Untracked != untracked+uint64(repeats) {
		w.t.Errorf("%s: %d connections opened by first packets, %d untracked", client, n.ConnOpened-opened, n.Untracked-untracked)
	}
	for range 2 {
		o := w.raw(at, front, next.Frame())
		w.ends(o, "forward")
		if hostOf(o) != host || o.Hops > 1 {
			w.t.Errorf("%s: host %d after %d hops, the first packet went to %d", client, hostOf(o), o.Hops, host)
		}
	}
	if n := w.sum(); n.ConnOpened != opened+1 || n.Untracked != untracked+uint64(repeats) {
		w.t.Errorf("%s: %d connections opened by the second packet", client, n.ConnOpened-opened)
	}
}

// TestFirstPacketsCount checks that first packets take an entry where one is needed: for
// persistence, for limits, and without adopt.
func TestFirstPacketsCount(t *testing.T) {
	persistent, limited, bounded, never := hashing(vip4, service.TUN), hashing(vip4, service.TUN), hashing(vip4, service.TUN), hashing(vip4, service.TUN)
	persistent.persistMs, persistent.own = 60_000, pipeline.ByAddress
	limited.limits.Connections = 100
	bounded.backends[0].most = 100
	never.adopt = false
	for _, s := range []svc{persistent, limited, bounded, never} {
		w := newWorld(t, s)
		w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
		if n := w.sum(); n.ConnOpened != 1 || n.Untracked != 0 {
			t.Errorf("%+v: %+v", s, n)
		}
	}
}

// TestFirstPacketsTime checks that a mark holds for as long as a handshake may take, and not for
// long after: then the segment is adopted. So it is after a RST, which opens nothing.
func TestFirstPacketsTime(t *testing.T) {
	for _, test := range []struct{ ms, adopted uint32 }{{0, 0}, {100, 0}, {32_000, 0}, {66_000, 1}, {1 << 30, 1}} {
		for _, start := range []uint32{0, 1<<32 - 1000, 123_456_789} {
			w := newWorld(t, hashing(vip4, service.DR))
			w.now = start
			w.procs[0].Housekeep(w.tables, w.now, 1, 1)
			w.in(packettest.TCP(client4, web4).Flags(syn))
			w.ends(w.in(packettest.TCP(client4, web4).Flags(rst)), "forward")
			w.now += test.ms
			w.ends(w.in(packettest.TCP(client4, web4)), "forward")
			if n := w.sum(); n.ConnOpened != 1 || n.Adopted != uint64(test.adopted) || n.Untracked != 2 {
				t.Errorf("from %d, after %d ms: %+v", start, test.ms, n)
			}
		}
	}
}

// TestFirstPacketsEarlier checks flows at a change of the backends: a flow that began before it
// stays where it is, also if the client repeats its SYN, and one that begins after it has an entry
// at once if the hash from before names another backend.
func TestFirstPacketsEarlier(t *testing.T) {
	few := hashing(vip4, service.DR)
	few.backends[2].gone = true
	w := newWorld(t, few)
	many := hashing(vip4, service.DR)
	many.earlier = &pipeline.Choice{Scheduler: w.tables.Services[1].Scheduler, Backends: w.tables.Services[1].Backends}
	began := map[string]int{}
	for n := range 60 {
		began[clientOf(vip4, n)] = hostOf(w.in(packettest.TCP(clientOf(vip4, n), web4).Flags(syn)))
	}
	fresh := newWorld(t, hashing(vip4, service.DR))
	w.configure(many)
	moved := 0
	for n := range 120 {
		client := clientOf(vip4, n)
		want := hostOf(fresh.in(packettest.TCP(client, web4).Flags(syn)))
		host, old := began[client]
		before := w.sum()
		if old && host != want {
			moved++
		}
		if old {
			want = host
		}
		for i, flags := range []uint8{syn, ack, ack} {
			if o := w.in(packettest.TCP(client, web4).Flags(flags)); o.String() != "forward" || hostOf(o) != want {
				t.Errorf("%s, began before %t: packet %d: %s to host %d, want %d", client, old, i, o, hostOf(o), want)
			}
		}
		if n := w.sum(); n.ConnOpened != before.ConnOpened+1 || n.Adopted != 0 {
			t.Errorf("%s: %d opened, %d adopted", client, n.ConnOpened-before.ConnOpened, n.Adopted)
		}
	}
	if n := w.sum(); moved == 0 || n.Untracked < 120 || n.Untracked >= 180 {
		t.Errorf("%d flows moved by the hash, %d packets untracked", moved, n.Untracked)
	}
}

// TestFirstPacketsFlood checks that a flood of first packets takes hardly any entries, that a flow
// which begins in it opens its connection, and that one which has lost its mark still reaches the
// same backend.
func TestFirstPacketsFlood(t *testing.T) {
	const flood = 40_000
	for _, proto := range []service.Protocol{service.TCP, service.UDP} {
		s := hashing(vip4, service.TUN)
		s.proto = proto
		w := newWorlds(t, 1, 1024, s)
		early, late := "192.0.2.1:1000", "192.0.2.1:2000"
		first, next := firstAndNext(proto, early, vip4)
		host := hostOf(w.in(first))
		for n := range flood {
			w.ends(w.in(spoofed(proto, n)), "forward")
			if n%100 == 0 {
				w.now++
			}
		}
		if n := w.sum(); n.Untracked < flood*999/1000 || n.ConnOpened > flood/1000 {
			t.Errorf("%s: %+v", proto, n)
		}
		if o := w.in(next); o.String() != "forward" || hostOf(o) != host {
			t.Errorf("%s: %s to host %d, before the flood to %d", proto, o, hostOf(o), host)
		}
		opened := w.sum().ConnOpened
		first, next = firstAndNext(proto, late, vip4)
		w.in(first)
		for n := range 1000 {
			w.in(spoofed(proto, flood+n))
		}
		if w.ends(w.in(next), "forward"); w.sum().ConnOpened == opened {
			t.Errorf("%s: a flow that began in the flood has no connection", proto)
		}
	}
}

// TestFirstPacketsDryRun checks that a dry run of a first packet names the backend and leaves no
// mark.
func TestFirstPacketsDryRun(t *testing.T) {
	for _, proto := range []service.Protocol{service.TCP, service.UDP} {
		s := hashing(vip4, service.TUN)
		s.proto = proto
		w := newWorld(t, s)
		first, _ := firstAndNext(proto, client4, vip4)
		before := state(w.procs[0])
		x, c := pipeline.NewDryRun(0, 1, w.seed, w.tables, w.loads), first.Chunk()
		w.procs[0].DryRun(x, pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}, w.tables, w.now)
		if state(w.procs[0]) != before {
			t.Error("the dry run has changed the worker")
		}
		o := w.in(first)
		w.ends(o, "forward")
		if x.Frame.Untracked() != o.Untracked() || o.Untracked() == 0 || x.After.Known || !x.Picked {
			t.Errorf("dry run: backend %d, known %t, picked %t; packet: backend %d", x.Frame.Untracked(), x.After.Known, x.Picked, o.Untracked())
		}
	}
}

// TestFirstPacketsProve checks that a connection which a second packet opened is proven by another
// one a second later, as any in tun and dr.
func TestFirstPacketsProve(t *testing.T) {
	w := newWorld(t, hashing(vip4, service.TUN))
	w.in(packettest.TCP(client4, web4).Flags(syn))
	for range 3 {
		w.in(packettest.TCP(client4, web4))
	}
	if c := w.only(); c.Flags&conn.Proven != 0 || c.State != conn.Established {
		t.Errorf("%+v", c)
	}
	w.now += 1300
	w.in(packettest.TCP(client4, web4))
	if c := w.only(); c.Flags&conn.Proven == 0 {
		t.Errorf("%+v", c)
	}
	w.sum()
}
