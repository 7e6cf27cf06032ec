package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
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
	w.sum()
	return opened
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
