package pipeline_test

import (
	"encoding/binary"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// family is what a test of ICMP errors needs to know of either.
type family struct {
	name, client, vip, host, local, transit string
	// of the error that says that a packet was too big
	typ, code uint8
}

var families = []family{
	{"IPv4", client4, vip4, "10.0.0.11", "10.0.0.2", transit4, 3, 4},
	{"IPv6", client6, vip6, "2001:db8:a::11", "2001:db8:b::2", transit6, 2, 0},
}

// TestICMPInNAT: an error about a packet from the service reaches the backend as one about the
// backend's packet, and an error about a packet to the backend reaches the client as one about the
// client's. Outer and embedded headers are translated, checksums included (M14).
func TestICMPInNAT(t *testing.T) {
	for _, f := range families {
		for _, proto := range []string{"tcp", "udp"} {
			t.Run(f.name+" "+proto, func(t *testing.T) {
				build, number := packettest.TCP, service.TCP
				if proto == "udp" {
					build, number = packettest.UDP, service.UDP
				}
				w := newWorld(t, svc{vip: f.vip, proto: number, backends: []backend{{host: 11, port: 8080}}})
				w.ends(w.in(build(f.client, port(f.vip, "80")).Flags(syn)), "forward")
				client := packettest.Addr(f.client).String()

				answer := build(port(f.host, "8080"), f.client).Payload([]byte("answer to you"))
				in := packettest.ICMP(f.transit, f.vip, f.typ, f.code, 1400, answer.From(port(f.vip, "80")).IP())
				want := packettest.ICMP(f.transit, f.host, f.typ, f.code, 1400, answer.IP()).TTL(63)
				w.expect(w.in(in), "forward", back, toHost(want, 11))

				question := build(f.client, port(f.host, "8080")).Payload([]byte("a question"))
				in = packettest.ICMP(port(f.host, "0"), client, f.typ, f.code, 1400, question.IP())
				want = packettest.ICMP(f.vip, client, f.typ, f.code, 1400, question.To(port(f.vip, "80")).IP()).TTL(63)
				w.expect(w.out(in), "forward", front, toClient(want))

				// A router on the way to the backend is not shown to the client either.
				in = packettest.ICMP(f.transit, client, f.typ, f.code, 1400, question.IP())
				w.expect(w.out(in), "forward", front, toClient(want))
				w.sum()
			})
		}
	}
}

// TestICMPIsCutShort: eight bytes of the embedded transport header are enough (RFC 792).
func TestICMPIsCutShort(t *testing.T) {
	w := newWorld(t, nat())
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	in := packettest.ICMP(transit4, vip4, 11, 0, 0, packettest.TCP(web4, client4).IP()[:28])
	o := w.in(in)
	w.ends(o, "forward")
	inner := o.frame()[14+28:]
	if packettest.CheckSums(o.frame()) != nil || len(inner) != 28 || binary.BigEndian.Uint16(inner[20:]) != 8080 || inner[15] != 11 {
		t.Errorf("%s", packettest.Decode(o.frame()))
	}
}

// TestICMPInFullNAT: both ends are translated.
func TestICMPInFullNAT(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := newWorlds(t, 1, 256)
			w.sources = []string{f.local}
			w.configure(svc{vip: f.vip, mode: service.FullNAT, backends: []backend{{host: 11, port: 8080}}})
			w.ends(w.in(packettest.TCP(f.client, port(f.vip, "80")).Flags(syn)), "forward")
			client := packettest.Addr(f.client).String()

			answer := packettest.TCP(port(f.vip, "80"), f.client)
			in := packettest.ICMP(f.transit, f.vip, f.typ, f.code, 1400, answer.IP())
			want := packettest.ICMP(f.local, f.host, f.typ, f.code, 1400, packettest.TCP(port(f.host, "8080"), port(f.local, "1024")).IP())
			w.expect(w.in(in), "forward", back, toHost(want.TTL(63), 11))

			in = packettest.ICMP(f.host, f.local, f.typ, f.code, 1400, packettest.TCP(port(f.local, "1024"), port(f.host, "8080")).IP())
			want = packettest.ICMP(f.vip, client, f.typ, f.code, 1400, packettest.TCP(f.client, port(f.vip, "80")).IP())
			w.expect(w.out(in), "forward", front, toClient(want.TTL(63)))
			w.sum()
		})
	}
}

// TestICMPInTunnelAndDR: the backend gets the error unchanged.
func TestICMPInTunnelAndDR(t *testing.T) {
	for _, f := range families {
		for _, mode := range []service.Mode{service.TUN, service.DR} {
			t.Run(f.name+" "+mode.String(), func(t *testing.T) {
				w := newWorld(t, svc{vip: f.vip, mode: mode, backends: []backend{{host: 11, port: 80}}})
				w.ends(w.in(packettest.TCP(f.client, port(f.vip, "80")).Flags(syn)), "forward")
				in := packettest.ICMP(f.transit, f.vip, f.typ, f.code, 1400, packettest.TCP(port(f.vip, "80"), f.client).IP())
				o := w.in(in)
				want := in.TTL(63)
				if mode == service.TUN {
					inner := want.IP()
					want = packettest.Raw(41, own6, f.host, inner).TTL(63)
					if f.name == "IPv4" {
						want = packettest.Raw(4, own4, f.host, inner).TTL(63).ID(binary.BigEndian.Uint16(o.frame()[18:]))
					}
				}
				w.expect(o, "forward", back, toHost(want, 11))
				w.sum()
			})
		}
	}
}

// TestICMPOfNoFlow: an error without a connection opens none and is not answered.
func TestICMPOfNoFlow(t *testing.T) {
	for _, f := range families {
		for _, own := range []pipeline.Ownership{pipeline.ByFlow, pipeline.ByAddress, pipeline.ByReceiver} {
			w := newWorld(t, svc{vip: f.vip, own: own, backends: []backend{{host: 11, port: 8080}}})
			client := packettest.Addr(f.client).String()
			w.ends(w.in(packettest.ICMP(f.transit, f.vip, f.typ, f.code, 1400, packettest.TCP(port(f.vip, "80"), f.client).IP())), "icmp_no_flow")
			w.ends(w.out(packettest.ICMP(f.host, client, f.typ, f.code, 1400, packettest.TCP(f.client, port(f.host, "8080")).IP())), "icmp_no_flow")
			if n := w.sum(); n.ConnOpened != 0 {
				t.Errorf("%+v", n)
			}
		}
	}
}

// TestICMPKeepsState: an error, which anyone can send, neither changes the state of a connection
// nor restarts its timeout (S06).
func TestICMPKeepsState(t *testing.T) {
	w := newWorld(t, nat())
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
	before := w.only()
	w.now += 1000
	w.ends(w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, client4).Flags(rst).IP())), "forward")
	if after := w.only(); after.State != before.State || after.Expires != before.Expires {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
