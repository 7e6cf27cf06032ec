package pipeline_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// droppedByWorker are the reasons that only the worker drops for, when its rings are full or beyond
// a limit of its own. What is for no service, at an address that the kernel has, counts as
// no_connection, because a packet doesn't tell whether it comes from a backend.
var droppedByWorker = []counter.Reason{counter.HandOverFull, counter.TxFull, counter.KernelLimit, counter.KernelFull}

// ways shows for each reason at least one way to be dropped for it.
var ways = []struct {
	reason counter.Reason
	name   string
	drop   func(w *world) outcome
}{
	{counter.Short, "cut", func(w *world) outcome { return w.raw(0, front, packettest.TCP(client4, web4).Frame()[:40]) }},
	{counter.NotIP, "ARP", func(w *world) outcome {
		return w.raw(0, front, append(packettest.TCP(client4, web4).Frame()[:12], append([]byte{8, 6}, make([]byte, 46)...)...))
	}},
	{counter.VLANStack, "two tags", func(w *world) outcome { return w.in(packettest.TCP(client4, web4).VLAN(1, 2)) }},
	{counter.BadIPHeader, "IPv6 of no length", func(w *world) outcome { return w.in(packettest.Raw(6, "2001:db8::1", vip6, nil)) }},
	{counter.BadIPChecksum, "one bit", func(w *world) outcome {
		frame := packettest.TCP(client4, web4).Frame()
		frame[14+10] ^= 1
		return w.raw(0, front, frame)
	}},
	{counter.IPOptions, "NOPs", func(w *world) outcome { return w.in(packettest.TCP(client4, web4).Options(1, 1, 1, 1)) }},
	{counter.Fragment, "of a ping", func(w *world) outcome {
		return w.in(packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, make([]byte, 8)).Fragment(0, true))
	}},
	{counter.BadFragment, "over the TCP header", func(w *world) outcome { return w.in(packettest.TCP(client4, web4).Fragment(8, false)) }},
	{counter.FragmentFull, "longer than what may wait", func(w *world) outcome {
		return w.in(packettest.UDP(client4, web4).Payload(make([]byte, 3000)).Fragment(8, false))
	}},
	{counter.Martian, "loopback", func(w *world) outcome { return w.in(packettest.TCP("127.0.0.1:1", web4)) }},
	{counter.Martian, "this host's", func(w *world) outcome { return w.in(packettest.TCP(port(own4, "1"), web4).Flags(syn)) }},
	{counter.Martian, "link-local of another link", func(w *world) outcome {
		return w.in(packettest.TCP("169.254.0.9:1", web4).Flags(syn))
	}},
	{counter.Hairpin, "itself", func(w *world) outcome { return w.out(packettest.TCP("10.0.0.11:4000", web4).Flags(syn)) }},
	{counter.BadL4Header, "cut within TCP", func(w *world) outcome { return w.in(packettest.Raw(6, "192.0.2.7", vip4, make([]byte, 12))) }},
	{counter.BadTCPFlags, "SYN FIN", func(w *world) outcome { return w.in(packettest.TCP(client4, web4).Flags(syn | fin)) }},
	{counter.BadICMP, "about nothing", func(w *world) outcome { return w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, nil)) }},
	{counter.ICMPNoFlow, "unknown", func(w *world) outcome {
		return w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, client4).IP()))
	}},
	{counter.UnknownProtocol, "ping", func(w *world) outcome { return w.in(packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, nil)) }},
	{counter.UnknownProtocol, "IPIP", func(w *world) outcome {
		return w.in(packettest.Raw(4, "192.0.2.7", vip4, packettest.TCP(client4, web4).IP()))
	}},
	{counter.NoConnection, "backend's SYN", func(w *world) outcome {
		return w.out(packettest.TCP("10.0.0.11:8080", client4).Flags(syn))
	}},
	{counter.NoConnection, "from another port", func(w *world) outcome { return w.out(packettest.TCP("10.0.0.11:8081", client4)) }},
	{counter.NoConnection, "RST", func(w *world) outcome { return w.in(packettest.TCP(client4, web4).Flags(rst)) }},
	{counter.NoBackend, "when answers are limited", func(w *world) outcome {
		w.configure(svc{})
		return w.exhausted(packettest.TCP(client4, web4).Flags(syn))
	}},
	{counter.AccessDenied, "new connection", func(w *world) outcome {
		w.configure(denying(nat(), "-192.0.2.0/24"))
		return w.in(packettest.TCP(client4, web4).Flags(syn))
	}},
	{counter.AccessDenied, "RST of one that was open", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.ends(w.in(packettest.TCP(client4, web4).Flags(ack)), "forward")
		w.configure(denying(nat(), "-192.0.2.0/24"))
		w.rstProbesAll()
		return w.in(packettest.TCP(client4, web4).Flags(rst))
	}},
	{counter.Limited, "connections of the service", func(w *world) outcome {
		s := nat()
		s.limits.Connections = 1
		w.configure(s)
		w.in(packettest.TCP(client4, web4).Flags(syn))
		return w.in(packettest.TCP("192.0.2.8:1", web4).Flags(syn))
	}},
	{counter.BackendGone, "client's RST", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.configure(evictAll(nat()))
		return w.in(packettest.TCP(client4, web4).Flags(rst))
	}},
	{counter.BackendGone, "ICMP error", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.configure(evictAll(nat()))
		return w.in(packettest.ICMP(transit4, vip4, 3, 1, 0, packettest.TCP(web4, client4).IP()))
	}},
	{counter.NoService, "RST to another port of a VIP", func(w *world) outcome {
		w.configure(svc{unowned: true, backends: []backend{{host: 11, port: 80}}})
		return w.in(packettest.TCP(client4, port(vip4, "81")).Flags(rst))
	}},
	{counter.EchoRefused, "ping of a VIP that is down", func(w *world) outcome {
		w.configure(svc{unowned: true, backends: []backend{{host: 11, port: 80}}})
		return w.in(packettest.ICMP("192.0.2.7", vip4, 8, 0, 1, nil))
	}},
	{counter.TableFull, "capacity", func(w *world) outcome { return w.fill(nat()) }},
	{counter.TableFull, "capacity, fullnat", func(w *world) outcome {
		return w.fill(svc{mode: service.FullNAT, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}, {host: 13, port: 80}, {host: 14, port: 80}, {host: 15, port: 80}}})
	}},
	{counter.TupleTaken, "by another service", func(w *world) outcome {
		same := []backend{{host: 11, port: 80}}
		w.configure(svc{backends: same}, svc{vip: "198.51.100.11", backends: same})
		w.in(packettest.TCP(client4, web4).Flags(syn))
		return w.in(packettest.TCP(client4, "198.51.100.11:80").Flags(syn))
	}},
	{counter.SNATExhausted, "a hundred ports", func(w *world) outcome {
		w.configure(svc{mode: service.FullNAT, backends: []backend{{host: 11, port: 80}}})
		for n := range 100 {
			w.ends(w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 1000+n), web4).Flags(syn)), "forward")
		}
		w.procs[0].ProveAll()
		return w.in(packettest.TCP("192.0.2.7:2000", web4).Flags(syn))
	}},
	{counter.TTLExpired, "when answers are limited", func(w *world) outcome {
		return w.exhausted(packettest.TCP(client4, web4).Flags(syn).TTL(1))
	}},
	{counter.NoRoute, "to the client", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.change(func(n *network) { n.lost = netip.MustParseAddr("192.0.2.7") })
		return w.out(packettest.TCP("10.0.0.11:8080", client4))
	}},
	{counter.NoRoute, "to the backend", func(w *world) outcome {
		w.change(func(n *network) { n.lost = netip.MustParseAddr("10.0.0.11") })
		return w.in(packettest.TCP(client4, web4).Flags(syn))
	}},
	{counter.NoNeighbour, "backend", func(w *world) outcome {
		w.change(func(n *network) { n.silent = 11 })
		return w.in(packettest.TCP(client4, web4).Flags(syn))
	}},
	{counter.NoNeighbour, "router", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.change(func(n *network) { n.noRouter = true })
		return w.out(packettest.ICMP("10.0.0.11", "192.0.2.7", 3, 1, 0, packettest.TCP(client4, "10.0.0.11:8080").IP()))
	}},
	{counter.PortDown, "to the backend", func(w *world) outcome {
		w.change(func(n *network) { n.backDown = true })
		return w.in(packettest.TCP(client4, web4).Flags(syn))
	}},
	{counter.PortDown, "ICMP error to the client", func(w *world) outcome {
		w.in(packettest.TCP(client4, web4).Flags(syn))
		w.change(func(n *network) { n.frontDown = true })
		return w.out(packettest.ICMP("10.0.0.11", "192.0.2.7", 3, 1, 0, packettest.TCP(client4, "10.0.0.11:8080").IP()))
	}},
	{counter.TooBig, "may be fragmented", func(w *world) outcome {
		return w.in(packettest.TCP(client4, web4).Flags(syn).Payload(make([]byte, 1461)))
	}},
}

// exhausted sends the packet when no more answers may be given.
func (w *world) exhausted(p packettest.Packet) outcome {
	for range 1000 {
		w.ends(w.in(p), "reply")
	}
	return w.in(p)
}

// fill opens connections until one is refused.
func (w *world) fill(s svc) outcome {
	w.configure(s)
	for n := range capacity {
		o := w.in(packettest.TCP(fmt.Sprintf("192.0.%d.%d:%d", 2+n/250, 1+n%250, 40000), web4).Flags(syn))
		if o.String() != "forward" {
			return o
		}
	}
	w.procs[0].ProveAll()
	return w.in(packettest.TCP("192.0.99.99:1", web4).Flags(syn))
}

func evictAll(s svc) svc {
	for i := range s.backends {
		s.backends[i].evict = true
	}
	return s
}

// TestEveryReason: each reason occurs, is counted once, and changes no other counter.
func TestEveryReason(t *testing.T) {
	shown := make(map[counter.Reason]bool)
	for _, r := range droppedByWorker {
		shown[r] = true
	}
	for _, way := range ways {
		shown[way.reason] = true
		t.Run(fmt.Sprint(way.reason, "/", way.name), func(t *testing.T) {
			w := newWorld(t, svc{backends: []backend{{host: 11, port: 8080}}})
			o := way.drop(w)
			if o.String() != way.reason.String() {
				t.Fatalf("dropped as %s", o)
			}
			if n := w.sum(); n.Drops[way.reason] != 1 || n.Dropped() != 1 {
				t.Errorf("%+v", n)
			}
		})
	}
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		if !shown[r] {
			t.Errorf("no test shows a packet that is dropped as %s", r)
		}
	}
}

// TestNeighbourRequests: a missing neighbour is requested once per address, and the list of
// requests is bounded.
func TestNeighbourRequests(t *testing.T) {
	w := newWorld(t, nat())
	w.change(func(n *network) { n.silent = 12 })
	for n := range 9 {
		w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 40000+n), web4).Flags(syn))
	}
	var asked []string
	ask := func(a netip.Addr) { asked = append(asked, a.String()) }
	w.flushRequests(ask)
	w.flushRequests(ask)
	if fmt.Sprint(asked) != "[10.0.0.12]" {
		t.Errorf("asked for %v", asked)
	}
	asked = nil
	w.change(func(n *network) { n.silent, n.noRouter = 0, true })
	for n := range 200 {
		end := fmt.Sprintf("192.0.2.%d:%d", 1+n, 40000)
		w.in(packettest.TCP(end, web4).Flags(syn))
		w.out(packettest.TCP("10.0.0.11:8080", end))
	}
	if w.flushRequests(ask); len(asked) != 16 {
		t.Errorf("asked for %d addresses", len(asked))
	}
}
