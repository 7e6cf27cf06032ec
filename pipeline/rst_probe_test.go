package pipeline_test

import (
	"fmt"
	"slices"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// rstProbes returns the RST probes that a worker makes, with room for so many frames and a budget
// of slots.
func (w *world) rstProbes(worker, room, slots int) (out []outcome) {
	w.t.Helper()
	p := w.procs[worker]
	p.Housekeep(w.tables, w.now, 0, 0)
	if !p.RSTProbesDue() {
		return nil
	}
	for len(w.probeFrames) < room {
		w.probeFrames = append(w.probeFrames, pipeline.Frame{Mem: make([]byte, packettest.ChunkSize)})
	}
	frames := slices.Clone(w.probeFrames[:room])
	for _, f := range frames[:p.MakeRSTProbes(frames, slots)] {
		mem := f.Mem
		f.Mem = slices.Clone(mem)
		clear(mem)
		out = append(out, outcome{Frame: f, owner: worker})
	}
	return out
}

// rstProbesAll is rstProbes of the first worker, without bounds.
func (w *world) rstProbesAll() []outcome { w.t.Helper(); return w.rstProbes(0, 4096, 1<<20) }

// rstProbeTo returns the RST probe from one end to another.
func rstProbeTo(from, to string, seq uint32) packettest.Packet {
	return packettest.TCP(from, to).Seq(seq, ^seq).Window(0).Payload(nil).DF()
}

// seqOf reads the sequence number of a TCP frame.
func seqOf(frame []byte) uint32 {
	at := 14 + 20 + 4
	if frame[12] == 0x86 {
		at += 20
	}
	return uint32(frame[at])<<24 | uint32(frame[at+1])<<16 | uint32(frame[at+2])<<8 | uint32(frame[at+3])
}

// TestRSTProbe: both ends of an idle connection get segments that they must answer, a second apart,
// with sequence numbers so far apart that no window includes two of them. The RST that answers may
// be lost, so that only an end that sends RST itself gets no more.
func TestRSTProbe(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		out := w.rstProbesAll()
		if len(out) != 2 {
			t.Fatalf("%d frames, want 2", len(out))
		}
		first := seqOf(out[0].frame())
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, first)))
		w.expect(out[1], "forward", back, toHost(rstProbeTo(peer, host, seqOf(out[1].frame())), 11))
		if c := w.only(); c.State != conn.Ended || c.Counted() {
			t.Errorf("%+v", c)
		}
		w.now += 999
		if out := w.rstProbesAll(); len(out) != 0 {
			t.Errorf("%d frames after 999 ms", len(out))
		}
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		w.now++
		out = w.rstProbesAll()
		if len(out) != 2 {
			t.Fatalf("%d frames, want another one to each", len(out))
		}
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, first+1<<32/3)))
		w.ends(w.out(packettest.TCP(host, peer).Flags(rst)), "backend_gone")
		w.ends(w.in(packettest.TCP(client, web)), "reply")
		w.now += 1000
		out = w.rstProbesAll()
		if len(out) != 1 {
			t.Fatalf("%d frames, want one to the client", len(out))
		}
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, first+2*(1<<32/3))))
		w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "backend_gone")
		for range 3 {
			w.now += 1000
			if out := w.rstProbesAll(); len(out) != 0 {
				t.Errorf("%d frames more", len(out))
			}
		}
		if n := w.sum(); n.Originated != 5 || n.Replied != 2 {
			t.Errorf("%+v", n)
		}
	})
}

// TestRSTProbesEnd: an end gets five RST probes and no more, whichever end answers; then the
// connection expires.
func TestRSTProbesEnd(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		n := 0
		for range 100 {
			n += len(w.rstProbesAll())
			w.pass(100)
		}
		if n != 10 || w.procs[0].RSTProbesDue() {
			t.Errorf("%d RST probes, want 10", n)
		}
		w.pass(2 * sweepMs)
		if n := w.sum(); n.ConnClosed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestRSTProbeTargets: only TCP connections through this host to the evicted backend get RST
// probes, and only until they expire. Connections that need no reset are removed.
func TestRSTProbeTargets(t *testing.T) {
	for _, test := range []struct {
		name    string
		mode    service.Mode
		proto   service.Protocol
		packets string // what passes before, from the client (c) or the backend (b)
		probes  int
		stays   bool
	}{
		{"half open", service.NAT, service.TCP, "cS", 0, false},
		{"established", service.NAT, service.TCP, "cS bS cA", 2, true},
		{"backend is through", service.NAT, service.TCP, "cS bS cA bF", 2, true},
		{"client is through", service.NAT, service.TCP, "cS bS cA cF", 2, true},
		{"both are through", service.NAT, service.TCP, "cS bS cA cF bF", 0, false},
		{"udp", service.NAT, service.UDP, "c", 0, false},
		{"udp fullnat", service.FullNAT, service.UDP, "c", 0, false},
		{"tun", service.TUN, service.TCP, "cS cA", 0, false},
		{"dr", service.DR, service.TCP, "cS cA", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, pairOf(vip4, test.mode, test.proto))
			flags := map[byte]uint8{'S': syn, 'A': ack, 'F': fin | ack}
			// the second one's backend stays
			for _, from := range []string{client4, "192.0.2.8:40000"} {
				for i := 0; i < len(test.packets); i += 3 {
					host := "10.0.0.11:80"
					if from != client4 {
						host = "10.0.0.12:80"
					}
					side, p := front, packettest.UDP(from, web4)
					if test.proto == service.TCP {
						p = packettest.TCP(from, web4)
						if test.packets[i] == 'b' {
							side, p = back, packettest.TCP(host, from)
						}
						p = p.Flags(flags[test.packets[i+1]])
					}
					w.ends(w.raw(0, side, p.Frame()), "forward")
				}
			}
			w.evictFirst(true)
			before := w.entries(0, 4)
			if out := w.rstProbesAll(); len(out) != test.probes {
				t.Errorf("%d probes, want %d", len(out), test.probes)
			}
			stay := 1
			if test.stays {
				stay = 2
			}
			if now := w.entries(0, 4); len(before) != 2 || len(now) != stay {
				t.Errorf("%d connections, then %d", len(before), len(now))
			}
			w.sum()
		})
	}
}

// TestRSTProbeOnce: further tables with the same evicted backend start no RST probes, and another
// evicted backend does. A backend that is back before its connections were scanned is left alone;
// ends of those that were scanned get more.
func TestRSTProbeOnce(t *testing.T) {
	w := newWorld(t, pairOf(vip4, service.NAT, service.TCP))
	for _, from := range []string{client4, "192.0.2.8:40000"} {
		w.ends(w.in(packettest.TCP(from, web4).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(from, web4)), "forward")
	}
	set := func(first, second bool) {
		w.svcs[0].backends[0].evict, w.svcs[0].backends[1].evict = first, second
		w.configure(w.svcs...)
	}
	set(true, false)
	if n := len(w.rstProbesAll()); n != 2 {
		t.Errorf("%d pokes", n)
	}
	set(true, false)
	if n := len(w.rstProbesAll()); n != 0 {
		t.Errorf("%d pokes for the same news", n)
	}
	set(true, true)
	if n := len(w.rstProbesAll()); n != 4 {
		t.Errorf("%d pokes when the second followed", n)
	}
	set(false, false)
	w.now += 1000
	if n := len(w.rstProbesAll()); n != 4 {
		t.Errorf("%d RST probes in the second round, want 4", n)
	}
	w.now += 20_000 // all entries expire
	w.rstProbesAll()
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	w.ends(w.in(packettest.TCP(client4, web4)), "forward")
	set(true, true)
	set(false, false)
	if n := len(w.rstProbesAll()); n != 0 {
		t.Errorf("%d RST probes without an evicted backend", n)
	}
	w.sum()
}

// TestRSTProbeBounds: with few frames, or time for few slots, no end is left out and none gets a
// RST probe twice.
func TestRSTProbeBounds(t *testing.T) {
	t.Parallel()
	const flows = 300
	for _, bounds := range [][2]int{{2, 1 << 20}, {3, 1 << 20}, {64, 1 << 20}, {64, 1}, {64, 100}, {1000, 7}} {
		t.Run(fmt.Sprint(bounds), func(t *testing.T) {
			w := newWorlds(t, 1, 1024, pairOf(vip4, service.NAT, service.TCP), pairOf(vip6, service.NAT, service.TCP))
			for n := range flows {
				for _, to := range []string{web4, web6} {
					from := fmt.Sprintf("192.0.2.%d:%d", 1+n%9, 1024+n)
					if to == web6 {
						from = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+n%9, 1024+n)
					}
					w.ends(w.in(packettest.TCP(from, to).Flags(syn)), "forward")
					w.ends(w.in(packettest.TCP(from, to)), "forward")
				}
			}
			w.evictFirst(true)
			seen := make(map[string]int)
			for {
				out := w.rstProbes(0, bounds[0], bounds[1])
				for _, o := range out {
					c := packettest.Place(o.frame())
					var m packet.Meta
					if r := packet.Parse(c.Mem, c.Start, c.End, &m); r != 0 {
						t.Fatal(r)
					}
					seen[fmt.Sprint(m.Src, m.SrcPort, m.Dst, m.DstPort)]++
				}
				if len(out) > bounds[0] {
					t.Fatalf("%d frames, room for %d", len(out), bounds[0])
				}
				if !w.procs[0].RSTProbesDue() {
					break
				}
			}
			if len(seen) != 2*flows {
				t.Errorf("%d ends were probed, want %d", len(seen), 2*flows)
			}
			for end, n := range seen {
				if n != 1 {
					t.Errorf("%s was probed %d times", end, n)
				}
			}
			w.sum()
		})
	}
}

// TestRSTProbeUnreachable: an end without a known neighbour is skipped and the neighbour requested;
// the next round reaches it.
func TestRSTProbeUnreachable(t *testing.T) {
	w := newWorld(t, pairOf(vip4, service.NAT, service.TCP))
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	w.ends(w.in(packettest.TCP(client4, web4)), "forward")
	w.svcs[0].backends[0].evict = true
	w.change(func(n *network) { n.silent, n.frontDown = 11, true })
	if out := w.rstProbesAll(); len(out) != 0 {
		t.Errorf("%d frames", len(out))
	}
	w.now += 1000
	w.change(func(n *network) { n.silent, n.frontDown = 0, false })
	if out := w.rstProbesAll(); len(out) != 2 {
		t.Errorf("%d frames", len(out))
	}
	w.sum()
}

// TestRSTProbeAllocatesNothing: RST probes allocate nothing.
func TestRSTProbeAllocatesNothing(t *testing.T) {
	w := newWorld(t, pairOf(vip4, service.FullNAT, service.TCP))
	for n := range 40 {
		from := fmt.Sprintf("192.0.2.7:%d", 1024+n)
		w.ends(w.in(packettest.TCP(from, web4).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(from, web4)), "forward")
	}
	w.evictFirst(true)
	p, frames := w.procs[0], make([]pipeline.Frame, 4)
	for i := range frames {
		frames[i].Mem = make([]byte, packettest.ChunkSize)
	}
	p.Housekeep(w.tables, w.now, 0, 0)
	made := 0
	if n := testing.AllocsPerRun(8, func() { made += p.MakeRSTProbes(frames, 1<<20) }); n != 0 || made == 0 {
		t.Errorf("%v allocations for %d pokes", n, made)
	}
}
