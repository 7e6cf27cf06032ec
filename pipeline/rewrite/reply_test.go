package rewrite_test

import (
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// answered is p as an answer: from us to the neighbour that the question came by.
func answered(p packettest.Packet) packettest.Packet {
	return p.MACs(packettest.OurMAC, packettest.NeighbourMAC)
}

func TestTCPReset(t *testing.T) {
	const fin, syn, rst, psh, ack = packet.FIN, packet.SYN, packet.RST, packet.PSH, packet.ACK
	for _, f := range []struct{ client, vip string }{{client4, vip4}, {client6, vip6}} {
		tcp := packettest.TCP(f.client, f.vip).Seq(1000, 2000).TTL(5).TOS(8)
		reset := answered(packettest.TCP(f.vip, f.client).Payload(nil).Window(0).TTL(64))
		if f.client == client4 {
			reset = reset.DF()
		}
		options := tcp.TCPOptions(2, 4, 5, 0xb4)
		runAll(t, []golden{
			{"syn", tcp.Flags(syn).Payload(nil), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1001)},
			{"syn with options", options.Flags(syn).Payload(nil), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1001)},
			{"syn with data", options.Flags(syn), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1006)},
			{"syn, padded", tcp.Flags(syn).Payload(nil).Padded(make([]byte, 6)...), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1001)},
			{"fin without ack", tcp.Flags(fin), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1006)},
			{"data without ack", tcp.Flags(psh), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 1005)},
			{"wraps", tcp.Flags(psh).Seq(0xfffffffe, 0), back(rewrite.TCPReset), reset.Flags(rst|ack).Seq(0, 3)},
			{"syn ack", tcp.Flags(syn | ack), back(rewrite.TCPReset), reset.Flags(rst).Seq(2000, 0)},
			{"ack", tcp, back(rewrite.TCPReset), reset.Flags(rst).Seq(2000, 0)},
			{"fin ack, tagged", tcp.Flags(fin | ack).VLAN(7), back(rewrite.TCPReset), reset.Flags(rst).Seq(2000, 0).VLAN(7)},
			{"by another link", tcp, to(rewrite.TCPReset), sent(reset.Flags(rst).Seq(2000, 0))},
		})
	}
	extended := packettest.TCP(client6, vip6).Extension(0, make([]byte, 8)...)
	golden{"extensions", extended, back(rewrite.TCPReset), answered(packettest.TCP(vip6, client6).Flags(rst).Seq(2000, 0).
		Payload(nil).Window(0))}.run(t)
}

func TestICMPAnswers(t *testing.T) {
	tooBig := func(mem []byte, m *packet.Meta) { rewrite.TooBig(mem, m, 1480) }
	error4 := func(typ, code uint8, rest uint32, about []byte) packettest.Packet {
		return answered(packettest.ICMP(host(vip4), host(client4), typ, code, rest, about).DF().TOS(0xc0))
	}
	error6 := func(typ, code uint8, rest uint32, about []byte) packettest.Packet {
		return answered(packettest.ICMP(host(vip6), host(client6), typ, code, rest, about))
	}
	udp4, tcp4 := packettest.UDP(client4, vip4), packettest.TCP(client4, vip4).TTL(1).ID(9).DF()
	udp6, tcp6 := packettest.UDP(client6, vip6), packettest.TCP(client6, vip6).TTL(1)
	long4, long6 := udp4.Payload(make([]byte, 1400)), udp6.Payload(make([]byte, 1400))
	extended := udp6.Extension(60, make([]byte, 8)...)
	fits4, fits6 := udp4.Payload(make([]byte, 576-28-28)), udp6.Payload(make([]byte, 1280-48-48))
	runAll(t, []golden{
		{"unreachable udp4", udp4, back(rewrite.Unreachable), error4(3, 3, 0, udp4.IP())},
		{"unreachable udp4, padded", udp4.Padded(1, 2, 3), back(rewrite.Unreachable), error4(3, 3, 0, udp4.IP())},
		{"unreachable udp4, tagged", udp4.VLAN(7), back(rewrite.Unreachable), error4(3, 3, 0, udp4.IP()).VLAN(7)},
		{"unreachable udp4, just fits", fits4, back(rewrite.Unreachable), error4(3, 3, 0, fits4.IP())},
		{"unreachable udp4, long", long4, back(rewrite.Unreachable), error4(3, 3, 0, long4.IP()[:576-28])},
		{"unreachable udp6", udp6, back(rewrite.Unreachable), error6(1, 4, 0, udp6.IP())},
		{"unreachable udp6, tagged", udp6.VLAN(7), back(rewrite.Unreachable), error6(1, 4, 0, udp6.IP()).VLAN(7)},
		{"unreachable udp6, just fits", fits6, back(rewrite.Unreachable), error6(1, 4, 0, fits6.IP())},
		{"unreachable udp6, long", long6, back(rewrite.Unreachable), error6(1, 4, 0, long6.IP()[:1280-48])},
		{"unreachable udp6, extensions", extended, back(rewrite.Unreachable), error6(1, 4, 0, extended.IP())},
		{"expired tcp4", tcp4, back(rewrite.TimeExceeded), error4(11, 0, 0, tcp4.IP())},
		{"expired tcp6", tcp6, back(rewrite.TimeExceeded), error6(3, 0, 0, tcp6.IP())},
		{"too big udp4", long4, back(tooBig), error4(3, 4, 1480, long4.IP()[:576-28])},
		{"too big udp6", long6, back(tooBig), error6(2, 0, 1480, long6.IP()[:1280-48])},
		{"by another link", udp4, toLink(&tagged, rewrite.Unreachable), sent(error4(3, 3, 0, udp4.IP())).VLAN(300)},
	})
}

// TestAnswersParse: the Meta of a reply is what Parse makes of it.
func TestAnswersParse(t *testing.T) {
	for _, s := range packettest.Samples {
		for name, step := range map[string]func([]byte, *packet.Meta){
			"reset": rewrite.TCPReset, "unreachable": rewrite.Unreachable, "expired": rewrite.TimeExceeded,
		} {
			c := s.Packet.Chunk()
			var m, want packet.Meta
			packet.Parse(c.Mem, c.Start, c.End, &m)
			if m.ICMPError || name == "reset" && m.Proto != packet.TCP {
				continue
			}
			start := back(step)(c.Mem, &m)
			if reason := packet.Parse(c.Mem, start, int(m.End), &want); reason != counter.None || m != want {
				t.Errorf("%s to %s: %v\nMeta says  %+v\nParse says %+v", name, s.Name, reason, m, want)
			}
		}
	}
}
