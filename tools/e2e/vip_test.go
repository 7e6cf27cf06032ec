package e2e_test

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/tools/e2e/testbed"
)

// TestVIPOnNoInterface: what arrives for a service's address that the balancer's kernel does not
// have is answered at once, although the kernel forwards and would send it back to the router.
func TestVIPOnNoInterface(t *testing.T) {
	b := bed(t)
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		must(t, b.Balancer.Sysctl(key, "1"))
		t.Cleanup(func() { must(t, b.Balancer.Sysctl(key, "0")) })
	}
	vips := map[int]netip.Addr{4: netip.MustParseAddr("198.51.100.77"), 6: netip.MustParseAddr("2001:db8:f::77")}
	cfg := config(t, testbed.Paths...)
	for _, p := range testbed.Paths {
		if p.Mode == "nat" {
			s := p.Web()
			s.Name, s.Address = "unowned-"+p.String(), vips[p.Family].String()
			cfg.Services = append(cfg.Services, s)
		}
	}
	d := start(t, b, cfg)
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	w := frontWire(t, b)
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			continue
		}
		vip := vips[p.Family]
		if s := b.Ask(ctxOf(t), "http://"+netip.AddrPortFrom(vip, testbed.WebPort).String(), 3); s.Answered() != 3 {
			t.Errorf("%s: requests went %s", vip, &s)
		}
		pingAddr(w, p, vip)
		from, to := netip.AddrPortFrom(p.Client(), 4321), netip.AddrPortFrom(vip, 4444)
		w.send(w.udp(from, to, "to no service"))
		w.await("port unreachable from "+vip.String(), func(g gopacket.Packet) bool {
			return isUnreachable(g) && g.NetworkLayer().NetworkFlow().Src().String() == vip.String()
		})
	}
	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if n := after.Replied - before.Replied; n != 4 {
		t.Errorf("%d answers, want one to each ping and to each datagram", n)
	}
	if n := after.Dropped() - before.Dropped(); n != 0 {
		t.Errorf("%d packets were dropped: some came back from the router", n)
	}
}

// isUnreachable reports whether a packet is an ICMP error "port unreachable".
func isUnreachable(g gopacket.Packet) bool {
	if l, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return l.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)
	}
	l, ok := g.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	return ok && l.TypeCode == layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)
}
