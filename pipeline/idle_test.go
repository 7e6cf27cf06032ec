package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// idleMs is the timeout of established connections in these tests.
const idleMs = 20_000

// idleSoon returns a service with that timeout.
func idleSoon(s svc) svc {
	s.idleMs = idleMs
	return s
}

// watch lets time pass, with housekeeping, and returns the RST probes that are made meanwhile.
func (w *world) watch(ms uint32) (probes []outcome) {
	w.t.Helper()
	for end := w.now + ms; w.now != end; {
		w.pass(min(100, end-w.now))
		probes = append(probes, w.rstProbesAll()...)
	}
	return probes
}

// TestIdleIsReset: both ends of a connection that was idle for its timeout get an RST probe, and
// are reset when they answer, within 10 s. Then they get no more. The connection counts as inactive
// and is removed 10 s later.
func TestIdleIsReset(t *testing.T) {
	bothEstablished(t, idleSoon, func(t *testing.T, w *world, client, web, host, peer string) {
		if out := w.watch(idleMs - 1); len(out) != 0 || w.only().State != conn.Established {
			t.Fatalf("%d probes before the timeout", len(out))
		}
		var out []outcome
		for i := 0; i < sweepMs/100 && len(out) == 0; i++ {
			out = w.watch(100)
		}
		if len(out) != 2 {
			t.Fatalf("%d probes", len(out))
		}
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, seqOf(out[0].frame()))))
		w.expect(out[1], "forward", back, toHost(rstProbeTo(peer, host, seqOf(out[1].frame())), 11))
		if c, l := w.only(), w.loads.Of(1); c.State != conn.Idle || c.Counted() || l.Active != 0 || l.Inactive != 1 {
			t.Errorf("%+v, %+v", c, l)
		}
		w.expect(w.in(packettest.TCP(client, web).Seq(1000, 2000)), "reply", front,
			returned(packettest.TCP(web, client)).DF().Window(0).Payload(nil).Flags(rst).Seq(2000, 0))
		w.expect(w.out(packettest.TCP(host, peer).Seq(5000, 6000)), "reply", back,
			returned(packettest.TCP(peer, host)).DF().Window(0).Payload(nil).Flags(rst).Seq(6000, 0))
		w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "no_connection")
		w.ends(w.out(packettest.TCP(host, peer).Flags(rst|ack)), "no_connection")
		if out := w.watch(10_000 + sweepMs); len(out) != 0 {
			t.Errorf("%d probes of ends that were reset", len(out))
		}
		if n := w.sum(); n.ConnClosed != 1 || n.IdleReset != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestIdleSilentEnds: an end that does not answer gets five probes a second apart.
func TestIdleSilentEnds(t *testing.T) {
	bothEstablished(t, idleSoon, func(t *testing.T, w *world, client, web, host, peer string) {
		w.watch(idleMs)
		var times []uint32
		for range 2 * sweepMs / 100 {
			for range w.watch(100) {
				times = append(times, w.now)
			}
		}
		if len(times) != 10 {
			t.Fatalf("%d probes, want 10", len(times))
		}
		for i, at := range times {
			if at != times[0]+uint32(i/2)*1000 {
				t.Errorf("probes at %v", times)
			}
		}
		if w.watch(2 * sweepMs); w.procs[0].RSTProbesDue() || w.sum().ConnClosed != 1 {
			t.Errorf("%+v", w.sum())
		}
	})
}

// TestIdleMeetsPacket: a packet that comes after the timeout and before the sweep is answered, and
// the other end gets its probe. So does the sender, because the answer may be lost, unless it sends
// RST.
func TestIdleMeetsPacket(t *testing.T) {
	bothEstablished(t, idleSoon, func(t *testing.T, w *world, client, web, host, peer string) {
		w.now += idleMs
		w.ends(w.in(packettest.TCP(client, web).Flags(fin|ack)), "reply")
		out := w.rstProbesAll()
		if len(out) != 2 {
			t.Fatalf("%d probes, want two", len(out))
		}
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, seqOf(out[0].frame()))))
		w.expect(out[1], "forward", back, toHost(rstProbeTo(peer, host, seqOf(out[1].frame())), 11))
		w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "no_connection")
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		if out := w.watch(1000); len(out) != 1 {
			t.Fatalf("%d probes, want another one for the end that may not have got its RST", len(out))
		}
		w.ends(w.out(packettest.TCP(host, peer).Flags(rst|ack)), "no_connection")
		if out := w.watch(sweepMs); len(out) != 0 {
			t.Errorf("%d more probes", len(out))
		}
	})
}

// TestIdleReopens: a SYN, also one with ACK as it was before, opens a new connection at once.
func TestIdleReopens(t *testing.T) {
	for _, flags := range []uint8{syn, syn | ack} {
		bothEstablished(t, idleSoon, func(t *testing.T, w *world, client, web, host, peer string) {
			w.watch(idleMs + sweepMs)
			w.ends(w.in(packettest.TCP(client, web).Flags(flags)), "forward")
			if c := w.only(); c.State != conn.SynRecv || c.Backend != 2 {
				t.Errorf("%+v", c)
			}
			if n := w.sum(); n.ConnOpened != 2 || n.ConnClosed != 1 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// TestIdleMakesRoom: a backend's address and port towards a client is free for another service.
func TestIdleMakesRoom(t *testing.T) {
	same := []backend{{host: 11, port: 80}}
	w := newWorld(t, idleSoon(svc{backends: same}), svc{vip: "198.51.100.11", backends: same})
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	w.ends(w.in(packettest.TCP(client4, web4)), "forward")
	w.watch(idleMs + sweepMs)
	w.ends(w.in(packettest.TCP(client4, "198.51.100.11:80").Flags(syn)), "forward")
	w.only()
	w.sum()
}

// TestIdleEvicted: the eviction of its backend changes nothing for a connection in state Idle.
func TestIdleEvicted(t *testing.T) {
	bothEstablished(t, idleSoon, func(t *testing.T, w *world, client, web, host, peer string) {
		w.now += idleMs
		w.ends(w.in(packettest.TCP(client, web)), "reply")
		w.evictFirst(true)
		w.watch(1000)
		w.ends(w.in(packettest.TCP(client, web)), "reply")
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		w.evictFirst(false)
		w.ends(w.in(packettest.TCP(client, web)), "reply")
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		if c := w.only(); c.State != conn.Idle {
			t.Errorf("%+v", c)
		}
	})
}

// TestIdleTargets: only established TCP connections with replies through Sluice are reset, and only
// if the service says so. The others are removed; then the client's next packet is answered.
func TestIdleTargets(t *testing.T) {
	for _, test := range []struct {
		name    string
		s       svc
		packets []packettest.Packet
		late    string // what becomes of the client's next packet
	}{
		{"silent", silent(pairOf(vip4, service.NAT, service.TCP)), tcpOpen(), "reply"},
		{"silent fullnat", silent(pairOf(vip4, service.FullNAT, service.TCP)), tcpOpen(), "reply"},
		{"tun", pairOf(vip4, service.TUN, service.TCP), tcpOpen(), "reply"},
		{"dr", pairOf(vip4, service.DR, service.TCP), tcpOpen(), "reply"},
		{"half open", pairOf(vip4, service.NAT, service.TCP), tcpOpen()[:1], "reply"},
		{"refused", pairOf(vip4, service.NAT, service.TCP), append(tcpOpen()[:1], packettest.TCP("10.0.0.11:80", client4).Flags(rst|ack)), "reply"},
		{"udp", pairOf(vip4, service.NAT, service.UDP), []packettest.Packet{packettest.UDP(client4, web4)}, "forward"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, idleSoon(test.s))
			for _, p := range test.packets {
				w.ends(w.in(p), "forward")
			}
			if out := w.watch(60_000 + sweepMs); len(out) != 0 {
				t.Errorf("%d probes", len(out))
			}
			if n := w.sum(); n.ConnClosed != 1 {
				t.Errorf("%+v", n)
			}
			last := packettest.TCP(client4, web4)
			if test.late == "forward" {
				last = packettest.UDP(client4, web4)
			}
			w.ends(w.in(last), test.late)
		})
	}
}

// tcpOpen returns a client's packets that establish a connection.
func tcpOpen() []packettest.Packet {
	return []packettest.Packet{packettest.TCP(client4, web4).Flags(syn), packettest.TCP(client4, web4)}
}

// establish opens connections of ports 1024 and on.
func (w *world) establish(n int) {
	w.t.Helper()
	for i := range n {
		from := fmt.Sprintf("192.0.2.7:%d", 1024+i)
		w.ends(w.in(packettest.TCP(from, web4).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(from, web4)), "forward")
	}
}

// TestIdleIsLimited: a worker begins 1000 resets at once, and 1000 more in each second. What is
// beyond is removed, and an end of it that sends is answered like any sender without connection.
func TestIdleIsLimited(t *testing.T) {
	w := newWorlds(t, 1, 8192, idleSoon(pairOf(vip4, service.NAT, service.TCP)))
	w.establish(3000)
	w.now += idleMs
	w.procs[0].Housekeep(w.tables, w.now, 8_000, 1<<30)
	if n := w.sum(); n.ConnClosed != 2000 || len(w.entries(0, 4)) != 1000 {
		t.Errorf("%+v", n)
	}
	probes := len(w.rstProbesAll())
	if probes += len(w.watch(10_000)); probes != 10_000 {
		t.Errorf("%d probes", probes)
	}
	replies := map[string]int{}
	for i := range 3000 {
		replies[w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 1024+i), web4)).String()]++
	}
	if replies["reply"] != 1000 || replies["no_connection"] != 2000 {
		t.Errorf("%v", replies)
	}
	w.establish(3000)
	w.now += idleMs
	for range 8 {
		w.procs[0].Housekeep(w.tables, w.now, 1_000, 1<<30)
		w.now += 500
	}
	if n := len(w.entries(0, 4)); n != 1000 && (n < 2000 || n > 3000) {
		t.Errorf("%d connections are reset", n)
	}
	w.sum()
}

// TestIdleFullTable: a full table keeps no idle connection from a new one.
func TestIdleFullTable(t *testing.T) {
	w := newWorlds(t, 1, 64, idleSoon(pairOf(vip4, service.NAT, service.TCP)))
	w.establish(64)
	w.procs[0].ProveAll()
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "table_full")
	w.now += idleMs
	for i := range 64 {
		w.ends(w.in(packettest.TCP(fmt.Sprintf("192.0.2.8:%d", 1024+i), web4).Flags(syn)), "forward")
	}
	w.sum()
}

// TestIdleTemplate: the client's persistence template counts the connection until it is removed.
func TestIdleTemplate(t *testing.T) {
	s := idleSoon(pairOf(vip4, service.NAT, service.TCP))
	s.persistMs = 1000
	w := newWorld(t, s)
	for _, p := range tcpOpen() {
		w.ends(w.in(p), "forward")
	}
	w.watch(idleMs + sweepMs)
	if n := w.procs[0].Templates(1); n != 1 || w.only().State != conn.Idle {
		t.Fatalf("%d templates", n)
	}
	w.ends(w.in(packettest.TCP("192.0.2.7:1", web4).Flags(syn)), "forward") // to the same backend
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	for _, c := range w.entries(0, 4) {
		if c.Backend != 1 || c.Flags&conn.HasTemplate == 0 {
			t.Errorf("%+v", c)
		}
	}
	w.watch(10 * 60_000)
	if n := w.sum(); n.ConnOpened != 3 || n.ConnClosed != 3 || w.procs[0].Templates(1) != 0 || w.procs[0].Table(4).Len() != 0 {
		t.Errorf("%+v, %d templates, %d entries", n, w.procs[0].Templates(1), w.procs[0].Table(4).Len())
	}
}

// TestIdleAllocatesNothing: nothing.
func TestIdleAllocatesNothing(t *testing.T) {
	w := newWorld(t, idleSoon(pairOf(vip4, service.NAT, service.TCP)))
	w.establish(60)
	p, frames := w.procs[0], make([]pipeline.Frame, 4)
	for i := range frames {
		frames[i].Mem = make([]byte, packettest.ChunkSize)
	}
	w.now += idleMs
	made := 0
	if n := testing.AllocsPerRun(8, func() {
		p.Housekeep(w.tables, w.now, 2_000, 1<<20)
		made += p.MakeRSTProbes(frames, 1<<20)
	}); n != 0 || made != 9*4 {
		t.Errorf("%v allocations for %d probes", n, made)
	}
}

// TestLateSegment: what a nat or fullnat backend of one port sends without a connection is answered
// with RST, but for a RST, a SYN, and what is beyond the limit of answers.
func TestLateSegment(t *testing.T) {
	bothEstablished(t, func(s svc) svc { return silent(idleSoon(s)) }, func(t *testing.T, w *world, client, web, host, peer string) {
		w.watch(idleMs + sweepMs)
		late := packettest.TCP(host, peer).Seq(5000, 6000).Payload([]byte("late"))
		want := returned(packettest.TCP(peer, host)).DF().Window(0).Payload(nil)
		w.expect(w.out(late), "reply", back, want.Flags(rst).Seq(6000, 0))
		w.expect(w.out(late.Flags(fin)), "reply", back, want.Flags(rst|ack).Seq(0, 5005))
		w.expect(w.out(late.Flags(syn|ack)), "reply", back, want.Flags(rst).Seq(6000, 0))
		for _, flags := range []uint8{rst, rst | ack, syn} {
			w.ends(w.out(late.Flags(flags)), "no_connection")
		}
		w.ends(w.out(packettest.UDP(host, peer)), "no_connection")
		w.ends(w.out(packettest.TCP(port(packettest.Addr(host).String(), "81"), peer)), "no_connection")
		w.ends(w.out(packettest.TCP(port(behind(packettest.Addr(web).String(), 14), "80"), peer)), "no_connection")
		for range 1000 - 3 {
			w.ends(w.out(late), "reply")
		}
		w.ends(w.out(late), "no_connection")
	})
}
