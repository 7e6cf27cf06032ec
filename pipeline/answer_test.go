package pipeline_test

import (
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// both runs a test for either family.
func both(t *testing.T, f func(t *testing.T, client, vip string)) {
	t.Run("IPv4", func(t *testing.T) { f(t, client4, vip4) })
	t.Run("IPv6", func(t *testing.T) { f(t, client6, vip6) })
}

// port joins an address and a port.
func port(a, p string) string {
	if packettest.Addr(a).Is6() {
		return "[" + a + "]:" + p
	}
	return a + ":" + p
}

// TestReset: a segment without a connection that may not open one is answered with RST, numbered as
// in RFC 9293, unless it is a RST.
func TestReset(t *testing.T) {
	both(t, func(t *testing.T, client, vip string) {
		s := nat()
		s.vip = vip
		w := newWorld(t, s)
		web := port(vip, "80")
		reply := returned(packettest.TCP(web, client)).DF().Window(0).Payload(nil)
		in := packettest.TCP(client, web).Seq(1000, 2000).Payload([]byte("hello"))
		for _, test := range []struct {
			name  string
			flags uint8
			want  packettest.Packet
		}{
			{"ACK", ack, reply.Flags(rst).Seq(2000, 0)},
			{"ACK FIN", ack | fin, reply.Flags(rst).Seq(2000, 0)},
			{"ACK PSH", ack | 8, reply.Flags(rst).Seq(2000, 0)},
			{"FIN", fin, reply.Flags(rst|ack).Seq(0, 1006)},
			{"PSH", 8, reply.Flags(rst|ack).Seq(0, 1005)},
		} {
			w.expect(w.in(in.Flags(test.flags)), "reply", front, test.want)
		}
		for _, flags := range []uint8{rst, rst | ack} {
			w.ends(w.in(in.Flags(flags)), "no_connection")
		}
		if n := w.sum(); n.Replied != 5 || n.Drops[counter.NoConnection] != 2 || n.ConnOpened != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// TestTaggedReset: the reply to a packet with a VLAN tag has the same tag.
func TestTaggedReset(t *testing.T) {
	w := newWorld(t, nat())
	want := returned(packettest.TCP(web4, client4)).DF().Window(0).Payload(nil).Flags(rst).Seq(2000, 0).VLAN(42)
	w.expect(w.in(packettest.TCP(client4, web4).VLAN(42)), "reply", front, want)
}

// unreachable is the ICMP error "port unreachable" about a packet.
func unreachable(about packettest.Packet, vip, client string) packettest.Packet {
	if packettest.Addr(vip).Is6() {
		return returned(packettest.ICMP(vip, packettest.Addr(client).String(), 1, 4, 0, about.IP()))
	}
	return returned(packettest.ICMP(vip, packettest.Addr(client).String(), 3, 3, 0, about.IP())).TOS(0xc0).DF()
}

// TestNoBackend: TCP and UDP clients get "port unreachable", as from IPVS (F04).
func TestNoBackend(t *testing.T) {
	for name, b := range map[string][]backend{
		"none": nil, "drained": {{host: 11, port: 80, drain: true}}, "down": {{host: 11, port: 80, down: true}},
		"gone": {{host: 11, port: 80, gone: true}},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, client, vip string) {
				w := newWorld(t, svc{vip: vip, backends: b}, svc{vip: vip, proto: service.UDP, backends: b})
				tcp := packettest.TCP(client, port(vip, "80")).Flags(syn)
				w.expect(w.in(tcp), "reply", front, unreachable(tcp, vip, client))
				udp := packettest.UDP(client, port(vip, "80"))
				w.expect(w.in(udp), "reply", front, unreachable(udp, vip, client))
				if n := w.sum(); n.Replied != 2 || n.ConnOpened != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// TestEmbeddedIsCut: an ICMP error quotes as much of a long packet as RFC 1812 and RFC 4443 allow.
func TestEmbeddedIsCut(t *testing.T) {
	both(t, func(t *testing.T, client, vip string) {
		w := newWorld(t, svc{vip: vip, proto: service.UDP})
		in := packettest.UDP(client, port(vip, "80")).Payload(make([]byte, 1400))
		o := w.in(in)
		w.ends(o, "reply")
		want := 14 + 576
		if packettest.Addr(vip).Is6() {
			want = 14 + 1280
		}
		if len(o.frame()) != want {
			t.Errorf("frame of %d bytes, want %d", len(o.frame()), want)
		}
		if err := packettest.CheckSums(o.frame()); err != nil {
			t.Error(err)
		}
	})
}

// TestTTL: the TTL decreases by one; a packet that would leave with TTL 0 is answered with an ICMP
// error (M17).
func TestTTL(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		both(t, func(t *testing.T, client, vip string) {
			w := newWorld(t, svc{vip: vip, mode: mode, backends: []backend{{host: 11, port: 80}}})
			in := packettest.TCP(client, port(vip, "80")).Flags(syn)
			for _, ttl := range []uint8{0, 1} {
				typ, code := uint8(11), uint8(0)
				if packettest.Addr(vip).Is6() {
					typ = 3
				}
				want := returned(packettest.ICMP(vip, packettest.Addr(client).String(), typ, code, 0, in.TTL(ttl).IP()))
				if packettest.Addr(vip).Is4() {
					want = want.TOS(0xc0).DF()
				}
				w.expect(w.in(in.TTL(ttl)), "reply", front, want)
			}
			for _, ttl := range []uint8{2, 64, 255} {
				o := w.in(in.TTL(ttl))
				w.ends(o, "forward")
				at := 14 + 8 // of an IPv4 header; the outer one in tun mode
				if packettest.Addr(vip).Is6() {
					at = 14 + 7
				}
				if got := o.frame()[at]; got != ttl-1 {
					t.Errorf("mode %s: TTL %d leaves as %d", mode, ttl, got)
				}
			}
			w.sum()
		})
	}
}

// TestTTLOfReplies: the same for replies of a backend.
func TestTTLOfReplies(t *testing.T) {
	w := newWorld(t, nat())
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	answer := packettest.TCP("10.0.0.11:8080", client4).Flags(syn | ack)
	w.expect(w.out(answer.TTL(2)), "forward", front, toClient(answer.From(web4).TTL(1)))
	want := returned(packettest.ICMP("192.0.2.7", "10.0.0.11", 11, 0, 0, answer.TTL(1).IP())).TOS(0xc0).DF()
	w.expect(w.out(answer.TTL(1)), "reply", back, want)
	w.sum()
}

// tooBig is the ICMP error about a packet longer than mtu.
func tooBig(about packettest.Packet, from, to string, mtu uint32) packettest.Packet {
	ip := about.IP()
	if packettest.Addr(from).Is6() {
		return returned(packettest.ICMP(from, to, 2, 0, mtu, ip[:min(len(ip), 1280-48)]))
	}
	return returned(packettest.ICMP(from, to, 3, 4, mtu, ip[:min(len(ip), 576-28)])).TOS(0xc0).DF()
}

// TestTooBig: packets up to the MTU pass. Longer ones are answered with an ICMP error that has the
// MTU if they must not be fragmented, and are dropped otherwise (M18).
func TestTooBig(t *testing.T) {
	for _, test := range []struct {
		name string
		mode service.Mode
		vip  string
		v6   bool // backend of the other family
		room int
	}{
		{"nat", service.NAT, vip4, false, 1500}, {"nat", service.NAT, vip6, false, 1500},
		{"dr", service.DR, vip4, false, 1500}, {"fullnat", service.FullNAT, vip6, false, 1500},
		{"4in4", service.TUN, vip4, false, 1480}, {"6in6", service.TUN, vip6, false, 1460},
		{"4in6", service.TUN, vip4, true, 1460}, {"6in4", service.TUN, vip6, true, 1480},
	} {
		t.Run(test.name+" "+test.vip, func(t *testing.T) {
			client, headers := client4, 28
			if packettest.Addr(test.vip).Is6() {
				client, headers = client6, 48
			}
			w := newWorld(t, svc{vip: test.vip, proto: service.UDP, mode: test.mode, backends: []backend{{host: 11, port: 80, v6: test.v6}}})
			in := packettest.UDP(client, port(test.vip, "80")).DF()
			o := w.in(in.Payload(make([]byte, test.room-headers)))
			w.ends(o, "forward")
			if len(o.frame()) != 1514 {
				t.Errorf("leaves with %d bytes", len(o.frame()))
			}
			big := in.Payload(make([]byte, test.room-headers+1))
			w.expect(w.in(big), "reply", front, tooBig(big, test.vip, packettest.Addr(client).String(), uint32(test.room)))
			if headers == 28 {
				fragile := packettest.UDP(client, port(test.vip, "80")).Payload(make([]byte, test.room-headers+1))
				w.ends(w.in(fragile), "too_big")
			}
			w.sum()
		})
	}
}

// TestTooBigReply: for replies, the MTU of the clients' port counts.
func TestTooBigReply(t *testing.T) {
	w := newWorld(t, svc{proto: service.UDP, backends: []backend{{host: 11, port: 53}}})
	w.change(func(n *network) { n.frontMTU = 1400 })
	w.ends(w.in(packettest.UDP(client4, web4)), "forward")
	answer := packettest.UDP("10.0.0.11:53", client4).DF()
	w.ends(w.out(answer.Payload(make([]byte, 1400-28))), "forward")
	big := answer.Payload(make([]byte, 1400-27))
	w.expect(w.out(big), "reply", back, tooBig(big, "192.0.2.7", "10.0.0.11", 1400))
	w.sum()
}

// TestAnswersAreLimited: a worker sends a thousand replies, then drops under the same reason, and
// after a second sends a thousand more (O08).
func TestAnswersAreLimited(t *testing.T) {
	for _, test := range []struct {
		reason string
		w      *world
		in     packettest.Packet
	}{
		{"no_connection", newWorld(t, nat()), packettest.TCP(client4, web4)},
		{"no_backend", newWorld(t, svc{}), packettest.TCP(client4, web4).Flags(syn)},
		{"ttl_expired", newWorld(t, nat()), packettest.TCP(client4, web4).Flags(syn).TTL(1)},
		{"too_big", newWorld(t, nat()), packettest.TCP(client4, web4).Flags(syn).DF().Payload(make([]byte, 1461))},
	} {
		t.Run(test.reason, func(t *testing.T) {
			w := test.w
			w.t = t
			frame := test.in.Frame()
			count := func(n int) (replies int) {
				for range n {
					switch o := w.raw(0, front, frame); o.String() {
					case "reply":
						replies++
					case test.reason:
					default:
						t.Fatalf("verdict %s", o)
					}
				}
				return replies
			}
			if n := count(1500); n != 1000 {
				t.Errorf("%d answers at first, want the 1000 of one second", n)
			}
			w.now += 500
			if n := count(1000); n != 500 {
				t.Errorf("%d answers after half a second, want 500", n)
			}
			w.now += 60_000
			if n := count(1500); n != 1000 {
				t.Errorf("%d answers after a minute, want the 1000 of one second", n)
			}
			w.sum()
		})
	}
}

// TestNoAnswerToErrors: an ICMP error is never answered, whatever is wrong with it (RFC 1122,
// 3.2.2).
func TestNoAnswerToErrors(t *testing.T) {
	w := newWorld(t, nat())
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	about := packettest.TCP(web4, client4).IP()
	e := packettest.ICMP(transit4, vip4, 3, 1, 0, about)
	w.ends(w.in(e), "forward")
	w.ends(w.in(e.TTL(1)), "ttl_expired")
	w.change(func(n *network) { n.mtu = 68 })
	w.ends(w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, append(about, make([]byte, 100)...)).DF()), "too_big")
	w.ends(w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, "192.0.2.8:1").IP())), "icmp_no_flow")
	w.sum()
}
