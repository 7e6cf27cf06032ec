package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// evictFirst ends the connections of each service's first backend.
func (w *world) evictFirst(evict bool) {
	w.t.Helper()
	for i := range w.svcs {
		if len(w.svcs[i].backends) > 0 {
			w.svcs[i].backends[0].evict = evict
		}
	}
	w.configure(w.svcs...)
}

// behind names a world's host in the family of the service's address.
func behind(vip string, host int) string {
	if vip == vip6 {
		return fmt.Sprintf("2001:db8:a::%d", host)
	}
	return fmt.Sprintf("10.0.0.%d", host)
}

// pairOf is a service with backends 11 and 12.
func pairOf(vip string, mode service.Mode, proto service.Protocol) svc {
	return svc{vip: vip, mode: mode, proto: proto, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
}

// bothNAT runs a test for nat and fullnat and either family. The world has one connection,
// established, with host 11, which knows its client as peer; and then host 11 is evicted.
func bothNAT(t *testing.T, f func(t *testing.T, w *world, client, web, host, peer string)) {
	bothEstablished(t, func(s svc) svc { return s }, func(t *testing.T, w *world, client, web, host, peer string) {
		w.evictFirst(true)
		f(t, w, client, web, host, peer)
	})
}

// bothEstablished is bothNAT without the eviction. change makes the service another one.
func bothEstablished(t *testing.T, change func(svc) svc, f func(t *testing.T, w *world, client, web, host, peer string)) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT} {
		t.Run(mode.String(), func(t *testing.T) {
			both(t, func(t *testing.T, client, vip string) {
				w := newWorld(t)
				peer := client
				if mode == service.FullNAT && vip == vip6 {
					w.sources = []string{"2001:db8:a::2"}
				}
				if mode == service.FullNAT {
					peer = port(w.sources[0], "1024")
				}
				w.configure(change(pairOf(vip, mode, service.TCP)))
				web, host := port(vip, "80"), port(behind(vip, 11), "80")
				w.ends(w.in(packettest.TCP(client, web).Flags(syn)), "forward")
				w.ends(w.out(packettest.TCP(host, peer).Flags(syn|ack)), "forward")
				w.ends(w.in(packettest.TCP(client, web)), "forward")
				f(t, w, client, web, host, peer)
				w.sum()
			})
		})
	}
}

// TestEvictedResets: each segment of either end of an evicted connection is answered with a RST
// that the end accepts.
func TestEvictedResets(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		data := packettest.TCP(client, web).Seq(1000, 2000).Payload([]byte("hello"))
		answer := packettest.TCP(host, peer).Seq(5000, 6000).Payload([]byte("world"))
		for range 2 {
			w.expect(w.in(data), "reply", front, returned(packettest.TCP(web, client)).DF().Window(0).Payload(nil).Flags(rst).Seq(2000, 0))
			w.expect(w.out(answer), "reply", back, returned(packettest.TCP(peer, host)).DF().Window(0).Payload(nil).Flags(rst).Seq(6000, 0))
		}
		w.ends(w.in(data.Flags(fin|ack)), "reply")
		w.ends(w.out(answer.Flags(fin|ack)), "reply")
		w.ends(w.in(data.Flags(rst)), "backend_gone")
		w.ends(w.out(answer.Flags(rst|ack)), "backend_gone")
		if c := w.only(); c.State != conn.Ended || c.Counted() {
			t.Errorf("%+v", c)
		}
		w.pass(10_000)
		w.ends(w.in(data), "reply") // as for any segment of no connection
		w.ends(w.out(answer), "reply")
		if n := w.sum(); n.ConnClosed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestEvictedResetsAll: the limit of replies does not apply to the RSTs of evicted connections.
func TestEvictedResetsAll(t *testing.T) {
	w := newWorlds(t, 1, 8192, pairOf(vip4, service.NAT, service.TCP))
	from := func(n int) string { return fmt.Sprintf("192.0.2.7:%d", 1024+n) }
	for n := range 6000 {
		w.ends(w.in(packettest.TCP(from(n), web4).Flags(syn)), "forward")
	}
	w.evictFirst(true)
	resets := 0
	for n := range 6000 {
		if o := w.in(packettest.TCP(from(n), web4)); o.String() == "reply" {
			resets++
		}
	}
	if n := w.sum(); resets != 3000 || n.Dropped() != 0 {
		t.Errorf("%d resets, %+v", resets, n)
	}
}

// TestEvictedReopens: a SYN opens a new connection to another backend, in whatever state the
// evicted one is.
func TestEvictedReopens(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		o := w.in(packettest.TCP(client, web).Flags(syn))
		w.ends(o, "forward")
		if c := w.only(); c.Backend != 2 || c.State != conn.SynRecv {
			t.Errorf("%+v", c)
		}
		w.ends(w.in(packettest.TCP(client, web)), "forward")
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		if n := w.sum(); n.ConnOpened != 2 || n.ConnClosed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestEvictedReturns: when the backend comes back at once, those of its connections that no RST
// probe and no packet has met continue.
func TestEvictedReturns(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		w.evictFirst(false)
		w.ends(w.in(packettest.TCP(client, web)), "forward")
		w.ends(w.out(packettest.TCP(host, peer)), "forward")
	})
}

// TestEvictedHalf: when the backend comes back after one end of a connection was reset, the other
// end is reset, too, although it sends nothing and has not got an RST that fits before.
func TestEvictedHalf(t *testing.T) {
	bothNAT(t, func(t *testing.T, w *world, client, web, host, peer string) {
		w.rstProbesAll()
		w.ends(w.out(packettest.TCP(host, peer)), "reply")
		w.ends(w.out(packettest.TCP(host, peer).Flags(rst)), "backend_gone")
		w.evictFirst(false)
		w.now += 1000
		out := w.rstProbesAll()
		if len(out) != 1 {
			t.Fatalf("%d RST probes, want one to the client", len(out))
		}
		w.expect(out[0], "forward", front, toClient(rstProbeTo(web, client, seqOf(out[0].frame()))))
		w.ends(w.in(packettest.TCP(client, web)), "reply")
		w.ends(w.in(packettest.TCP(client, web).Flags(syn)), "forward") // another connection
	})
}

// TestEvictedUDP: the flow's next packet, and all later ones, go to another backend, in all modes.
func TestEvictedUDP(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, persistMs := range []uint32{0, 60_000} {
			t.Run(fmt.Sprint(mode, persistMs), func(t *testing.T) {
				s := pairOf(vip4, mode, service.UDP)
				s.persistMs = persistMs
				w := newWorld(t, s)
				w.ends(w.in(packettest.UDP(client4, web4)), "forward")
				w.evictFirst(true)
				w.ends(w.in(packettest.UDP(client4, web4)), "forward")
				w.ends(w.in(packettest.UDP(client4, web4)), "forward")
				w.evictFirst(false)
				w.ends(w.in(packettest.UDP(client4, web4)), "forward")
				if c := w.only(); c.Backend != 2 || c.State != conn.UDP {
					t.Errorf("%+v", c)
				}
				if n := w.sum(); n.ConnOpened != 2 || n.ConnClosed != 1 {
					t.Errorf("%+v", n)
				}
			})
		}
	}
}

// TestEvictedOneWay: in tun and dr the connection is removed: a SYN opens a new one, any other
// segment has no connection.
func TestEvictedOneWay(t *testing.T) {
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t, pairOf(vip4, mode, service.TCP))
			other := "192.0.2.8:40000"
			for range 2 { // rr: the second client's is at host 12
				w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
				w.ends(w.in(packettest.TCP(other, web4).Flags(syn)), "forward")
			}
			w.evictFirst(true)
			w.expect(w.in(packettest.TCP(client4, web4).Seq(1000, 2000)), "reply", front,
				returned(packettest.TCP(web4, client4)).DF().Window(0).Payload(nil).Flags(rst).Seq(2000, 0))
			w.ends(w.in(packettest.TCP(client4, web4).Flags(rst)), "no_connection")
			w.ends(w.in(packettest.TCP(other, web4)), "forward")
			if c := w.only(); c.Backend != 2 {
				t.Errorf("%+v", c)
			}
			w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
			for _, c := range w.entries(0, 4) {
				if c.Backend != 2 {
					t.Errorf("%+v", c)
				}
			}
			w.sum()
		})
	}
}

// TestEvictedNoBackend: without another backend, a packet that would open a connection is answered
// with an ICMP error.
func TestEvictedNoBackend(t *testing.T) {
	for _, proto := range []service.Protocol{service.TCP, service.UDP} {
		s := pairOf(vip4, service.NAT, proto)
		s.backends = s.backends[:1]
		w := newWorld(t, s)
		in := packettest.UDP(client4, web4)
		if proto == service.TCP {
			in = packettest.TCP(client4, web4).Flags(syn)
		}
		w.ends(w.in(in), "forward")
		w.evictFirst(true)
		w.expect(w.in(in), "reply", front, unreachable(in, vip4, client4))
		if n := w.sum(); n.ConnClosed != 1 {
			t.Errorf("%+v", n)
		}
	}
}

// TestEvictedErrors: an ICMP error about a packet of an evicted backend is dropped.
func TestEvictedErrors(t *testing.T) {
	w := newWorld(t, pairOf(vip4, service.NAT, service.TCP))
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	w.evictFirst(true)
	w.ends(w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, client4).IP())), "backend_gone")
	if n := w.sum(); n.Drops[counter.BackendGone] != 1 {
		t.Errorf("%+v", n)
	}
}

// TestEvictedTemplate: a template never binds a client to an evicted backend, even if that is up.
func TestEvictedTemplate(t *testing.T) {
	w := newWorld(t, sticky())
	if got := w.visit("192.0.2.1", 1, web4); got != 1 {
		t.Fatal(got)
	}
	w.evictFirst(true)
	if second, third := w.visit("192.0.2.1", 2, web4), w.visit("192.0.2.1", 3, web4); second == 1 || third != second {
		t.Errorf("%d, then %d", second, third)
	}
	w.sum()
}
