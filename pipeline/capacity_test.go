package pipeline_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// anyPort returns a service of all ports in both families.
func anyPort(mode service.Mode, own pipeline.Ownership) []svc {
	all := service.Ports{First: 1, Last: 65535}
	return []svc{
		{vip: vip4, ports: all, mode: mode, own: own, backends: []backend{{host: 11}, {host: 12}, {host: 13}}},
		{vip: vip6, ports: all, mode: mode, own: own, backends: []backend{{host: 11}, {host: 12}, {host: 13}}},
	}
}

// opening returns a SYN of the n-th connection of so many client ports to ports of a VIP.
func opening(n, clientPorts int, is6 bool) packettest.Packet {
	client, vipPort := n%clientPorts, 1+n/clientPorts
	if is6 {
		return packettest.TCP(fmt.Sprintf("[2001:db8:9::%x]:%d", client, 1024+client), fmt.Sprintf("[%s]:%d", vip6, vipPort)).Flags(syn)
	}
	return packettest.TCP(fmt.Sprintf("192.0.%d.%d:%d", 2+client/250, 1+client%250, 1024+client), fmt.Sprintf("%s:%d", vip4, vipPort)).Flags(syn)
}

// fillPorts tries to open so many connections of a thousand client ports, and returns how many fit.
// worker returns the worker that the packets of a client port arrive at.
func (w *world) fillPorts(tries int, mix string, worker func(clientPort int) int) (opened int) {
	w.t.Helper()
	const clientPorts = 1000
	before := w.sum()
	for n := range tries {
		is6 := mix == "v6" || mix == "both" && n%2 == 1
		switch o := w.raw(worker(n%clientPorts), front, opening(n, clientPorts, is6).Frame()); o.String() {
		case "forward":
			opened++
		case "table_full":
		default:
			w.t.Fatalf("connection %d: %s", n, o)
		}
	}
	after := w.sum()
	return opened - int(after.Displaced-before.Displaced) - int(after.Untracked-before.Untracked)
}

// TestCapacityIsTheBoxs: whatever the families of connections are, and whichever workers have them,
// nearly all of the capacity can be used, and no more.
func TestCapacityIsTheBoxs(t *testing.T) {
	box := steps(8192)
	for _, test := range []struct {
		mode    service.Mode
		own     pipeline.Ownership
		workers int
	}{
		{service.NAT, pipeline.ByFlow, 1}, {service.NAT, pipeline.ByFlow, 2}, {service.NAT, pipeline.ByFlow, 4},
		{service.TUN, pipeline.ByReceiver, 3}, {service.TUN, pipeline.ByReceiver, 4},
	} {
		for _, mix := range []string{"v4", "v6", "both"} {
			t.Run(fmt.Sprintf("%v/%d workers/%s", test.mode, test.workers, mix), func(t *testing.T) {
				w := newWorlds(t, test.workers, box/test.workers, anyPort(test.mode, test.own)...)
				spread := func(clientPort int) int { return clientPort * 0x9e37 >> 4 % test.workers }
				if opened := w.fillPorts(box+box/16, mix, spread); opened < box*95/100 || opened > box {
					t.Errorf("%d of %d connections fit", opened, box)
				}
			})
		}
	}
}

// TestCapacityFollowsTheLoad: a worker can have one and a half times its even share, and another as
// much when those connections have ended.
func TestCapacityFollowsTheLoad(t *testing.T) {
	const even = 2048
	w := newWorlds(t, 2, even, anyPort(service.TUN, pipeline.ByReceiver)...)
	for _, mix := range []string{"v4", "v6", "both"} {
		for worker := range w.procs {
			opened := w.fillPorts(2*even, mix, func(int) int { return worker })
			if most := even * 3 / 2; opened < most-even/32 || opened > most {
				t.Errorf("%s: worker %d has %d connections of %d", mix, worker, opened, most)
			}
			w.pass(60_000 + 2*8_000) // SYN_RECV, and the sweep
		}
	}
}

// TestOneClientPort: one client address and port has 4,000 connections to ports of one service, in
// each mode and family. All go on in both directions, and nothing is left when they have ended.
func TestOneClientPort(t *testing.T) {
	connections := steps(4000)
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, proto := range []service.Protocol{service.TCP, service.UDP} {
			t.Run(fmt.Sprintf("%v/%v", mode, proto), func(t *testing.T) {
				both(t, func(t *testing.T, client, vip string) {
					s := anyPort(mode, pipeline.ByFlow)[0]
					s.vip, s.proto = vip, proto
					w := newWorlds(t, 1, 2*connections)
					w.sources, w.ports = []string{"10.0.0.2"}, portSet(1024, 65535)
					if vip == vip6 {
						w.sources[0] = "2001:db8:a::2"
					}
					w.configure(s)
					make := packettest.UDP
					if proto == service.TCP {
						make = func(src, dst string) packettest.Packet { return packettest.TCP(src, dst).Flags(syn) }
					}
					for n := range connections {
						p := make(client, port(vip, fmt.Sprint(1+n)))
						w.ends(w.in(p), "forward")
						if o := w.in(p.Flags(ack)); mode == service.NAT || mode == service.FullNAT {
							w.answered(o, port(vip, fmt.Sprint(1+n)), client, make)
						}
					}
					if v4, v6 := w.procs[0].Entries(); v4+v6 != connections {
						t.Errorf("%d and %d entries, want %d", v4, v6, connections)
					}
					for n := range connections {
						o := w.in(make(client, port(vip, fmt.Sprint(1+n))).Flags(ack))
						w.ends(o, "forward")
						if mode == service.NAT || mode == service.FullNAT {
							w.answered(o, port(vip, fmt.Sprint(1+n)), client, make)
						}
					}
					if opened := w.sum().ConnOpened; opened != uint64(connections) {
						t.Errorf("%d connections were opened, want %d", opened, connections)
					}
					w.pass(16 * 60_000)
					if v4, v6 := w.procs[0].Entries(); w.sum().ConnClosed != uint64(connections) || v4+v6 != 0 {
						t.Errorf("%d and %d entries are left", v4, v6)
					}
				})
			})
		}
	}
}

// answered checks that the backend's answer to a frame that was forwarded to it goes from the
// service to the client.
func (w *world) answered(o outcome, service, client string, make func(src, dst string) packettest.Packet) {
	w.t.Helper()
	meta := func(o outcome) (src, dst string) {
		w.ends(o, "forward")
		var m packet.Meta
		if reason := packet.Parse(o.Mem, o.Start, o.End, &m); reason != counter.None {
			w.t.Fatal(reason)
		}
		return netip.AddrPortFrom(m.Src.Netip(), m.SrcPort).String(), netip.AddrPortFrom(m.Dst.Netip(), m.DstPort).String()
	}
	local, backend := meta(o)
	if src, dst := meta(w.out(make(backend, local).Flags(ack))); src != service || dst != client {
		w.t.Fatalf("the answer of %s to %s goes from %s to %s", backend, local, src, dst)
	}
}
