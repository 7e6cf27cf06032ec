package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// echo is an ICMP echo message.
func echo(from, to string, request bool) packettest.Packet {
	typ := map[[2]bool]uint8{{false, true}: 8, {true, true}: 128, {true, false}: 129}[[2]bool{packettest.Addr(from).Is6(), request}]
	return packettest.ICMP(from, to, typ, 0, 0x12340001, []byte("0123456789"))
}

// TestVIP: what is sent to a VIP that the kernel does not have, and to no service, is answered as
// by a host without listeners.
func TestVIP(t *testing.T) {
	both(t, func(t *testing.T, client, vip string) {
		s := nat()
		s.vip, s.unowned, s.echo = vip, true, true
		w := newWorld(t, s)
		host := packettest.Addr(client).String()
		w.expect(w.in(echo(host, vip, true).TTL(1)), "reply", front, returned(echo(vip, host, false)))
		w.expect(w.in(echo(host, vip, true).VLAN(42)), "reply", front, returned(echo(vip, host, false)).VLAN(42))
		for _, in := range []packettest.Packet{
			packettest.UDP(client, port(vip, "80")), packettest.TCP(client, port(vip, "81")).Flags(syn), packettest.TCP(client, port(vip, "81")),
		} {
			w.expect(w.in(in), "reply", front, unreachable(in, vip, client))
		}
		w.ends(w.in(packettest.TCP(client, port(vip, "81")).Flags(rst|ack)), "no_service")
		w.ends(w.in(echo(host, vip, false)), "unknown_protocol")
		w.ends(w.in(packettest.Raw(47, host, vip, make([]byte, 20))), "unknown_protocol")
		w.ends(w.in(packettest.UDP(client, port(vip, "80")).Fragment(8, false)), "wait")
		w.ends(w.in(packettest.TCP(client, port(vip, "80")).Flags(syn)), "forward")
		if n := w.sum(); n.Replied != 5 || n.Dropped() != 3 || n.Waiting != 1 || n.Forwarded != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// TestVIPEcho: an address answers pings if one of its services does, and only while that does.
func TestVIPEcho(t *testing.T) {
	web, other := nat(), nat()
	web.unowned, other.unowned = true, true
	other.ports = service.Ports{First: 443, Last: 443}
	for _, c := range []struct {
		web, other bool
		want       string
	}{{true, false, "reply"}, {false, true, "reply"}, {false, false, "echo_refused"}, {true, true, "reply"}} {
		web.echo, other.echo = c.web, c.other
		w := newWorld(t, web, other)
		w.ends(w.in(echo("192.0.2.7", vip4, true)), c.want)

		// the same by an update of the tables, from all states
		for _, from := range []bool{false, true} {
			web.echo, other.echo = from, from
			w.configure(web, other)
			services := append(w.tables.Services[:0:0], w.tables.Services...)
			services[1].Echo, services[2].Echo = c.web, c.other
			w.tables = w.tables.Update(services, w.tables.Backends, []uint32{1, 2}, nil)
			w.ends(w.in(echo("192.0.2.7", vip4, true)), c.want)
		}
	}
}

// TestVIPLimit: unreachable messages are limited as other answers are; the rest is counted.
func TestVIPLimit(t *testing.T) {
	s := nat()
	s.unowned = true
	w := newWorld(t, s)
	for n := range 1500 {
		w.in(packettest.UDP(fmt.Sprintf("192.0.2.7:%d", 1000+n), port(vip4, "99")))
	}
	if n := w.sum(); n.Replied != 1000 || n.Drops[counter.NoService] != 500 {
		t.Errorf("%d replies, %d drops", n.Replied, n.Drops[counter.NoService])
	}
}
