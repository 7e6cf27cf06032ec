package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// confirmRST answers the one RST probe that is due like an end that has no connection any more.
func (w *world) confirmRST() {
	w.t.Helper()
	out := w.rstProbesAll()
	if len(out) != 1 {
		w.t.Fatalf("%d RST probes ask whether a RST was genuine, want 1", len(out))
	}
	w.ends(w.raw(0, int(out[0].Port), w.rstFor(out[0]).Frame()), "forward")
}

// rstFor returns the RST that answers a segment of no connection.
func (w *world) rstFor(o outcome) packettest.Packet {
	w.t.Helper()
	c := packettest.Place(o.frame())
	var m packet.Meta
	if reason := packet.Parse(c.Mem, c.Start, c.End, &m); reason != 0 || o.Verdict != pipeline.Forward {
		w.t.Fatalf("a RST probe is %s, %v", o, reason)
	}
	end := func(a packet.Addr, port uint16) string { return netip.AddrPortFrom(a.Netip(), port).String() }
	return packettest.TCP(end(m.Dst, m.DstPort), end(m.Src, m.SrcPort)).Flags(rst).Seq(^seqOf(o.frame()), 0).Payload(nil)
}

// alive returns the ACK by which an end that has the connection answers a RST probe.
func (w *world) alive(o outcome) packettest.Packet {
	w.t.Helper()
	return w.rstFor(o).Flags(ack).Seq(70_000, 80_000)
}

// watchAlive lets time pass and answers all RST probes like an end that has the connection. It
// returns how many there were.
func (w *world) watchAlive(ms uint32) (probes int) {
	w.t.Helper()
	for end := w.now + ms; w.now != end; {
		w.pass(min(100, end-w.now))
		for _, o := range w.rstProbesAll() {
			probes++
			w.ends(w.raw(0, int(o.Port), w.alive(o).Frame()), "forward")
		}
	}
	return probes
}

// forgeries are the flags of segments that a stranger sends in a row.
var forgeries = map[string][]uint8{
	"RST":             {rst},
	"RST ACK":         {rst | ack},
	"RST, SYN":        {rst, syn},
	"FIN":             {fin | ack},
	"FIN, SYN":        {fin | ack, syn},
	"FIN, RST, SYN":   {fin | ack, rst, syn},
	"SYN":             {syn},
	"SYN, SYN":        {syn, syn},
	"SYN ACK":         {syn | ack},
	"SYN, RST, SYN":   {syn, rst, syn},
	"RST, FIN":        {rst, fin | ack},
	"SYN ACK and RST": {syn | ack, rst | ack},
}

// established is bothEstablished with connections of tun and dr, too, of which the backend's
// segments do not pass.
func established(t *testing.T, f func(t *testing.T, w *world, mode service.Mode, client, web, host, peer string)) {
	bothEstablished(t, func(s svc) svc { return s }, func(t *testing.T, w *world, client, web, host, peer string) {
		f(t, w, w.svcs[0].mode, client, web, host, peer)
	})
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		t.Run(mode.String(), func(t *testing.T) {
			both(t, func(t *testing.T, client, vip string) {
				w := newWorld(t, pairOf(vip, mode, service.TCP))
				web := port(vip, "80")
				w.ends(w.in(packettest.TCP(client, web).Flags(syn)), "forward")
				w.ends(w.in(packettest.TCP(client, web)), "forward")
				f(t, w, mode, client, web, "", "")
				w.sum()
			})
		})
	}
}

// TestForged: segments of a stranger who does not know the numbers reach the backend, and neither
// end, move nor shorten the connection: it has its backend, its state and all of its timeout. In
// tun and dr, a FIN shortens it until the client sends data.
func TestForged(t *testing.T) {
	for name, segments := range forgeries {
		t.Run(name, func(t *testing.T) {
			established(t, func(t *testing.T, w *world, mode service.Mode, client, web, host, peer string) {
				for i, flags := range segments {
					w.now += 7
					o := w.in(packettest.TCP(client, web).Flags(flags).Seq(rand.Uint32(), rand.Uint32()).Payload(nil))
					if w.ends(o, "forward"); int(o.Port) != back {
						t.Errorf("segment %d leaves by port %d", i, o.Port)
					}
				}
				probes := w.watchAlive(5000)
				if len(segments) == 1 && segments[0]&rst != 0 && probes != 3 {
					t.Errorf("%d RST probes, want 3", probes)
				}
				if mode == service.DR || mode == service.TUN {
					w.ends(w.in(packettest.TCP(client, web)), "forward")
				}
				c := w.only()
				if left := c.Expires - w.now; c.State != conn.Established || c.Backend != 1 || left < 900_000-5100 {
					t.Errorf("%+v, %d ms left", c, left)
				}
				if n, l := w.sum(), w.loads.Of(1); n.ConnOpened != 1 || n.ConnClosed != 0 || l.Active != 1 {
					t.Errorf("%+v, %+v", n, l)
				}
				if o := w.in(packettest.TCP(client, web)); !o.TookFastPath() {
					t.Errorf("the next segment: %s, fast path: %t", o, o.TookFastPath())
				}
				if host != "" {
					w.ends(w.out(packettest.TCP(host, peer)), "forward")
				}
				w.pass(899_000)
				w.only()
			})
		})
	}
}

// TestForgedAnswers: RSTs with a backend's addresses, but not with the number that the RST probe
// demands, do not confirm a RST, and are not believed themselves.
func TestForgedAnswers(t *testing.T) {
	bothEstablished(t, func(s svc) svc { return s }, func(t *testing.T, w *world, client, web, host, peer string) {
		w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "forward")
		for range 3 {
			out := w.rstProbesAll()
			if len(out) != 1 || int(out[0].Port) != back {
				t.Fatalf("%d RST probes", len(out))
			}
			for _, seq := range []uint32{0, seqOf(out[0].frame()), ^seqOf(out[0].frame()) + 1, rand.Uint32()} {
				w.ends(w.out(packettest.TCP(host, peer).Flags(rst|ack).Seq(seq, 0)), "forward")
			}
			w.now += 1000
		}
		if c := w.only(); c.State != conn.Established || c.Expires-w.now != 897_000 {
			t.Errorf("%+v", c)
		}
		if out := w.rstProbesAll(); len(out) != 0 {
			t.Errorf("%d more RST probes", len(out))
		}
		if c := w.only(); c.State != conn.Established || c.Flags&conn.Doubted != 0 {
			t.Errorf("silence ends the doubt with %+v", c)
		}
		w.ends(w.out(packettest.TCP(host, peer).Flags(rst)), "forward")
		w.confirmRST()
		if c := w.only(); c.State != conn.Close || c.Expires-w.now != 10_000 || c.Counted() {
			t.Errorf("%+v", c)
		}
	})
}

// TestLateAnswer: the answer to a RST probe counts for nothing if a SYN came before it: the backend
// is about to open a connection, and answers every ACK with an unexpected number by RST then.
func TestLateAnswer(t *testing.T) {
	bothEstablished(t, func(s svc) svc { return s }, func(t *testing.T, w *world, client, web, host, peer string) {
		w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "forward")
		out := w.rstProbesAll()
		w.ends(w.in(packettest.TCP(client, web).Flags(syn)), "forward")
		w.ends(w.out(packettest.TCP(host, peer).Flags(syn|ack)), "forward")
		w.ends(w.out(w.rstFor(out[0])), "forward")
		w.ends(w.in(packettest.TCP(client, web)), "forward")
		if out := w.watch(10_000); len(out) != 0 {
			t.Errorf("%d more RST probes", len(out))
		}
		if c := w.only(); c.State != conn.Established || c.Expires-w.now != 890_000 {
			t.Errorf("%+v", c)
		}
	})
}

// TestSilentClient: in tun and dr, a RST closes the connection of a client that answers three RST
// probes neither by RST nor otherwise, within three seconds; and an ACK shows that it was forged.
func TestSilentClient(t *testing.T) {
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		both(t, func(t *testing.T, client, vip string) {
			w, web := newWorld(t, pairOf(vip, mode, service.TCP)), port(vip, "80")
			w.ends(w.in(packettest.TCP(client, web).Flags(syn)), "forward")
			w.ends(w.in(packettest.TCP(client, web)), "forward")
			w.now += 5000
			w.ends(w.in(packettest.TCP(client, web).Flags(rst)), "forward")
			out := w.watch(2900)
			if c := w.only(); len(out) != 3 || c.State != conn.Established || c.Expires-w.now != 900_000-7_900 {
				t.Errorf("%d RST probes, %+v", len(out), c)
			}
			for _, o := range out {
				w.expect(o, "forward", front, toClient(rstProbeTo(web, client, seqOf(o.frame()))))
			}
			if out = w.watch(500); len(out) != 0 || w.only().State != conn.Close {
				t.Errorf("%d RST probes, %+v", len(out), w.only())
			}
			w.ends(w.in(packettest.TCP(client, web).Payload(nil)), "forward")
			if c := w.only(); c.State != conn.Established || c.Backend != 1 || c.Expires-w.now != 900_000 {
				t.Errorf("%+v", c)
			}
			w.sum()
		})
	}
}

// TestSYNToRemovedBackend: a stranger's SYNs do not move the connection of a removed backend that
// answers them, however many come before its first answer.
func TestSYNToRemovedBackend(t *testing.T) {
	bothEstablished(t, func(s svc) svc { return s }, func(t *testing.T, w *world, client, web, host, peer string) {
		w.svcs[0].backends[0].gone = true
		w.configure(w.svcs...)
		forged := packettest.TCP(client, web).Flags(syn).Payload(nil)
		for range 3 {
			for range 3 {
				w.ends(w.in(forged), "forward")
			}
			w.ends(w.out(packettest.TCP(host, peer).Payload(nil)), "forward") // its challenge ACK
			w.pass(1000)
			if c := w.only(); c.State != conn.Established || c.Backend != 1 || c.Expires-w.now != 899_000 {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// TestSYNToRemovedBackendOneWay: in tun and dr the client is asked whether it still has the
// connection. A stranger's SYNs do not move that of a client that answers; that of a client that
// does not is moved after three seconds.
func TestSYNToRemovedBackendOneWay(t *testing.T) {
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		both(t, func(t *testing.T, client, vip string) {
			w, web := newWorld(t, pairOf(vip, mode, service.TCP)), port(vip, "80")
			for _, p := range []packettest.Packet{packettest.TCP(client, web).Flags(syn), packettest.TCP(client, web)} {
				w.ends(w.in(p), "forward")
			}
			w.svcs[0].backends[0].gone = true
			w.configure(w.svcs...)
			forged := packettest.TCP(client, web).Flags(syn).Payload(nil)
			for range 5 {
				w.ends(w.in(forged), "forward")
				w.ends(w.in(forged), "forward")
				w.watchAlive(1000)
			}
			if c := w.only(); c.State != conn.Established || c.Backend != 1 || c.Expires-w.now < 895_000 {
				t.Errorf("%+v, %d ms left", c, c.Expires-w.now)
			}
			w.watch(4000)
			w.ends(w.in(forged), "forward")
			if c := w.only(); c.Backend != 1 {
				t.Errorf("the first SYN moves it: %+v", c)
			}
			w.watch(1000)
			w.ends(w.in(forged), "forward")
			w.watch(2500)
			w.ends(w.in(forged), "forward")
			if c := w.only(); c.Backend != 2 || c.State != conn.SynRecv {
				t.Errorf("%+v", c)
			}
			w.sum()
		})
	}
}

// TestManyDoubts: while as many connections are doubted as may be, a RST of a nat client has no
// effect, and one of a backend or of a tun or dr client is believed. All that are doubted get their
// RST probes, and then there is space again.
func TestManyDoubts(t *testing.T) {
	t.Parallel()
	const most = 1 << 15
	s := pairOf(vip4, service.NAT, service.TCP)
	s.backends = s.backends[:1]
	dr := pairOf("198.51.100.11", service.DR, service.TCP)
	w := newWorlds(t, 1, 1<<17, s, dr)
	from := func(i int) string { return fmt.Sprintf("192.0.2.%d:%d", 1+i>>12, 1024+i&4095) }
	open := func(i int, to string) {
		w.ends(w.in(packettest.TCP(from(i), to).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(from(i), to)), "forward")
	}
	for i := range most {
		open(i, web4)
		w.ends(w.in(packettest.TCP(from(i), web4).Flags(rst)), "forward")
	}
	states := func(want int) {
		t.Helper()
		by := map[conn.State]int{}
		for _, c := range w.entries(0, 4) {
			by[c.State]++
		}
		if by[conn.Close] != want {
			t.Errorf("%v, want %d in CLOSE", by, want)
		}
	}
	open(most, web4)
	open(most+1, "198.51.100.11:80")
	w.ends(w.in(packettest.TCP(from(most), web4).Flags(rst)), "forward")
	states(0)
	w.ends(w.out(packettest.TCP("10.0.0.11:80", from(most)).Flags(rst)), "forward")
	states(1)
	w.ends(w.in(packettest.TCP(from(most+1), "198.51.100.11:80").Flags(rst)), "forward")
	states(2)
	probes, calls := 0, 0
	for ; w.procs[0].RSTProbesDue(); calls++ {
		probes += len(w.rstProbes(0, 64, 1))
	}
	if probes != most {
		t.Errorf("%d RST probes in %d calls, want %d", probes, calls, most)
	}
	w.now += 1000
	if probes += len(w.watch(5000)); probes != 3*most {
		t.Errorf("%d RST probes, want %d", probes, 3*most)
	}
	w.ends(w.in(packettest.TCP(from(0), web4).Flags(rst)), "forward")
	if out := w.rstProbesAll(); len(out) != 1 {
		t.Errorf("%d RST probes", len(out))
	}
	w.sum()
}

// TestDoubtAllocatesNothing: neither a doubt nor its RST probes allocate.
func TestDoubtAllocatesNothing(t *testing.T) {
	w := newWorld(t, pairOf(vip4, service.NAT, service.TCP))
	w.establish(60)
	p, frames := w.procs[0], make([]pipeline.Frame, 4)
	for i := range frames {
		frames[i].Mem = make([]byte, packettest.ChunkSize)
	}
	var chunks []packettest.Chunk
	for i := range 60 {
		chunks = append(chunks, packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 1024+i), web4).Flags(rst).Chunk())
	}
	at, made := 0, 0
	if n := testing.AllocsPerRun(50, func() {
		c := chunks[at]
		w.batch.Frames[0] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}
		p.Process(w.batch, 1, w.tables, w.now)
		made += p.MakeRSTProbes(frames, 1)
		at++
	}); n != 0 || made != 51 {
		t.Errorf("%v allocations for %d probes", n, made)
	}
}

// TestForgedErrors: ICMP errors are forwarded, and change neither state nor timer.
func TestForgedErrors(t *testing.T) {
	established(t, func(t *testing.T, w *world, mode service.Mode, client, web, host, peer string) {
		before := w.only()
		w.now += 5000
		from, unreachable := transit4, uint8(3)
		if strings.HasPrefix(web, "[") {
			from, unreachable = transit6, 1
		}
		for code := range uint8(4) {
			about := packettest.TCP(web, client).IP()
			w.ends(w.in(packettest.ICMP(from, packettest.Addr(web).String(), unreachable, code, 0, about)), "forward")
			if host != "" {
				about = packettest.TCP(peer, host).IP()
				w.ends(w.out(packettest.ICMP(from, packettest.Addr(peer).String(), unreachable, code, 0, about)), "forward")
			}
		}
		if now := w.only(); now != before {
			t.Errorf("%+v has become %+v", before, now)
		}
	})
}
