package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// allPorts is a nat service on all ports.
func allPorts() svc { return svc{ports: service.AnyPort, backends: []backend{{host: 11}}} }

// behindAll runs a test in both families; host is the backend, and peer an end outside.
func behindAll(t *testing.T, s svc, f func(t *testing.T, w *world, host, peer, vip string)) {
	for _, c := range []struct{ name, vip, host, peer string }{
		{"ipv4", vip4, "10.0.0.11", client4}, {"ipv6", vip6, "2001:db8:a::11", client6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s
			s.vip = c.vip
			w := newWorld(t, s)
			f(t, w, c.host, c.peer, c.vip)
			w.sum()
		})
	}
}

// TestStrays: what a backend sends without a connection goes to the kernel if the backend may have
// sent it of its own accord; TestLateSegment has the rest.
func TestStrays(t *testing.T) {
	tcp, udp := []string{"to kernel", "no_connection"}, []string{"no_connection", "to kernel"}
	none := []string{"no_connection", "no_connection"}
	for name, c := range map[string]struct {
		s    svc
		want []string // of TCP, of UDP
	}{
		"any port":          {allPorts(), tcp},
		"a range":           {svc{ports: service.Ports{First: 80, Last: 90}, backends: []backend{{host: 11}}}, tcp},
		"any port, udp":     {svc{proto: service.UDP, ports: service.AnyPort, backends: []backend{{host: 11}}}, udp},
		"udp":               {svc{proto: service.UDP, backends: []backend{{host: 11, port: 80}}}, udp},
		"former backend":    {svc{proto: service.UDP, backends: []backend{{host: 11, port: 80, gone: true}, {host: 12, port: 80}}}, udp},
		"former service":    {svc{proto: service.UDP, gone: true, backends: []backend{{host: 11, port: 80}}}, udp},
		"fullnat":           {svc{mode: service.FullNAT, ports: service.AnyPort, backends: []backend{{host: 11}}}, none},
		"fullnat, udp":      {svc{mode: service.FullNAT, proto: service.UDP, backends: []backend{{host: 11, port: 80}}}, none},
		"tun":               {svc{mode: service.TUN, backends: []backend{{host: 11, port: 80}}}, none},
		"dr":                {svc{mode: service.DR, proto: service.UDP, backends: []backend{{host: 11, port: 80}}}, none},
		"another's backend": {svc{proto: service.UDP, ports: service.AnyPort, backends: []backend{{host: 12}}}, none},
	} {
		t.Run(name, func(t *testing.T) {
			behindAll(t, c.s, func(_ *testing.T, w *world, host, peer, _ string) {
				w.ends(w.out(packettest.TCP(port(host, "80"), peer)), c.want[0])
				w.ends(w.out(packettest.UDP(port(host, "80"), peer)), c.want[1])
			})
		})
	}
}

// TestStrayIsUnchanged: the kernel gets the IP packet as the backend sent it, without its Ethernet
// header, tag and padding, even if the TTL is used up; answering is the kernel's.
func TestStrayIsUnchanged(t *testing.T) {
	behindAll(t, svc{proto: service.UDP, ports: service.AnyPort, backends: []backend{{host: 11}}}, func(t *testing.T, w *world, host, peer, _ string) {
		for name, p := range map[string]packettest.Packet{
			"plain":  packettest.UDP(port(host, "5353"), peer).Payload([]byte("query")),
			"TTL 1":  packettest.UDP(port(host, "5353"), peer).TTL(1).Payload([]byte("query")),
			"tagged": packettest.UDP(port(host, "5353"), peer).Payload([]byte("query")).VLAN(7),
		} {
			w.change(func(n *network) {
				if n.vlan = 0; name == "tagged" {
					n.vlan = 7
				}
			})
			o := w.raw(0, back, append(p.Frame(), make([]byte, 9)...))
			w.ends(o, "to kernel")
			if got, want := string(o.frame()), string(p.IP()); got != want {
				t.Errorf("%s: the kernel gets % x, want % x", name, got, want)
			}
		}
		if n := w.sum(); n.ToKernel != 3 || n.Rx != 3 {
			t.Errorf("%+v", n)
		}
	})
}

// TestStrayArrivesElsewhere: a packet with a backend's address that arrives where no route leads to
// the backend is not given to the kernel, which would not see that it arrived there.
func TestStrayArrivesElsewhere(t *testing.T) {
	behindAll(t, allPorts(), func(_ *testing.T, w *world, host, peer, _ string) {
		stray := packettest.TCP(port(host, "80"), peer)
		w.ends(w.out(stray), "to kernel")
		w.ends(w.in(stray), "no_connection")
		w.ends(w.out(stray.VLAN(7)), "no_connection")
		w.change(func(n *network) { n.vlan = 7 })
		w.ends(w.out(stray), "no_connection")
		w.ends(w.out(stray.VLAN(7)), "to kernel")
		w.change(func(n *network) { n.vlan, n.silent = 0, 11 })
		w.ends(w.out(stray), "to kernel") // its MAC address does not matter
	})
}

// TestStrayToUs: what a nat backend sends to an address that fullnat sends from, or to a VIP that
// the kernel does not have, stays Sluice's.
func TestStrayToUs(t *testing.T) {
	unowned := allPorts()
	unowned.unowned, unowned.vip = true, "198.51.100.20"
	unowned.ports = service.Ports{First: 80, Last: 90}
	w := newWorld(t, allPorts(), unowned, svc{vip: "198.51.100.30", mode: service.FullNAT, backends: []backend{{host: 12, port: 80}}})
	w.ends(w.out(packettest.TCP("10.0.0.11:80", client4)), "to kernel")
	w.ends(w.out(packettest.TCP("10.0.0.11:80", "10.0.0.2:1024")), "no_connection")
	w.ends(w.out(packettest.TCP("10.0.0.11:80", "198.51.100.20:99")), "reply")
	w.sum()
}

// TestStrayErrors: an ICMP error about a packet that Sluice did not send to the backend is the
// kernel's if the answer to that packet would be.
func TestStrayErrors(t *testing.T) {
	behindAll(t, svc{proto: service.UDP, ports: service.AnyPort, backends: []backend{{host: 11}}}, func(t *testing.T, w *world, host, peer, vip string) {
		at, typ, code := packettest.Addr(peer).String(), uint8(3), uint8(3)
		if vip == vip6 {
			typ, code = 1, 4
		}
		about := func(to string) packettest.Packet {
			return packettest.ICMP(host, at, typ, code, 0, packettest.UDP(peer, to).IP())
		}
		o := w.out(about(port(host, "5353")))
		w.ends(o, "to kernel")
		if got, want := string(o.frame()), string(about(port(host, "5353")).IP()); got != want {
			t.Errorf("the kernel gets % x, want % x", got, want)
		}
		w.ends(w.in(about(port(host, "5353"))), "icmp_no_flow")
		w.ends(w.out(packettest.ICMP(host, at, typ, code, 0, packettest.TCP(peer, port(host, "80")).IP())), "icmp_no_flow")
		w.ends(w.in(packettest.UDP(peer, port(vip, "5353"))), "forward")
		w.ends(w.out(about(port(host, "5353"))), "forward") // it has a connection now
	})
}

// TestStrayAtItsOwner: a stray is given to the kernel by the worker that would have its connection.
func TestStrayAtItsOwner(t *testing.T) {
	w := newWorlds(t, 3, capacity, allPorts())
	owners := make(map[int]bool)
	for n := range 32 {
		o := w.raw(n%3, back, packettest.TCP("10.0.0.11:80", port("192.0.2.7", fmt.Sprint(40000+n))).Frame())
		w.ends(o, "to kernel")
		owners[o.owner] = true
	}
	if n := w.sum(); n.ToKernel != 32 || n.HandedOut == 0 || len(owners) != 3 {
		t.Errorf("%+v by workers %v", n, owners)
	}
}

// TestStraysAllocateNothing also checks that each has the reason for which it may be dropped.
func TestStraysAllocateNothing(t *testing.T) {
	w := newWorld(t, svc{proto: service.UDP, ports: service.AnyPort, backends: []backend{{host: 11}}})
	l := newLoad(
		packettest.UDP("10.0.0.11:5353", client4).Frame(),
		packettest.ICMP("10.0.0.11", "192.0.2.7", 3, 3, 0, packettest.UDP(client4, "10.0.0.11:5353").IP()).Frame(),
	)
	if n := testing.AllocsPerRun(20, func() {
		n := l.fill(w.batch)
		for i := range n {
			w.batch.Frames[i].Port = back
		}
		w.procs[0].Process(w.batch, n, w.tables, w.now)
		for i := range n {
			if f := &w.batch.Frames[i]; f.Verdict != pipeline.ToKernel || f.Reason == counter.None {
				t.Fatalf("verdict %d, reason %s", f.Verdict, f.Reason)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.sum()
}
