package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// checkVIP checks that packets to a service's address arrive here: routers send them, or neighbours
// resolve the address on the link and this machine's kernel answers.
func checkVIP(b *Box) (all []Finding) {
	all = b.missedPackets()
	for _, vip := range b.vips() {
		var on *Link
		for _, a := range b.Addresses {
			l := b.Links[a.Link]
			if l != nil && b.portByIndex(l.Index) != nil && a.Prefix.Masked().Contains(vip) && !a.Prefix.IsSingleIP() {
				on = l
			}
		}
		owner := b.onInterface(vip)
		if f, loops := b.looping(vip, owner); loops {
			all = append(all, f)
		}
		switch {
		case on == nil && owner == "":
			all = append(all, found(Note, "route it to an address of this box, at the routers that clients come from",
				"%s is on no interface and on no link of a port: its packets arrive only by a route", vip))
		case on == nil:
		case owner == "" && b.text("proc/sys/net/ipv4/conf/"+on.Name+"/proxy_arp") != "1":
			all = append(all, found(Problem, here("or take an address outside of the link's network and route it here", fmt.Sprintf("ip addr replace %s dev %s", whole(vip), on.Name)),
				"%s is in a network of port %s and no interface has it: there is no answer when neighbours ask for its MAC address", vip, on.Name))
		case vip.Is4() && owner != "" && owner != on.Name && ignoresARP(b, on.Name):
			all = append(all, found(Problem, here("or add the address to "+on.Name, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.arp_ignore=0 net.ipv4.conf.all.arp_ignore=0", on.Name)),
				"%s is on %s, and arp_ignore keeps port %s from answering ARP for it", vip, owner, on.Name))
		}
	}
	return all
}

// missedPackets reports packets to services that come in by an interface that is not a port, while
// a daemon runs.
func (b *Box) missedPackets() (all []Finding) {
	for i, a := range b.Missed {
		if b.Stats == nil || slices.ContainsFunc(b.Missed[:i], func(o Missed) bool { return o.Interface == a.Interface && o.VIP == a.VIP }) {
			continue
		}
		becomes := "the kernel drops them"
		switch r, err := b.Route(a.VIP); {
		case b.onInterface(a.VIP) != "":
			becomes = "the kernel takes them for its own"
		case b.forwarding(a.VIP.Is4()) > 0 && err == nil && r.Gateway.IsValid():
			becomes = fmt.Sprintf("the kernel sends them back to router %s, and they go round until their TTL is used up", r.Gateway)
		}
		fix := fmt.Sprintf("add [[port]] name = %q", a.Interface)
		if own := b.ownAtPort(a.VIP.Is4()); own.IsValid() {
			fix = "at the router that sends them: " + here("or "+fix, addRoute(whole(a.VIP).String(), "via "+own.String()))
		}
		all = append(all, found(Problem, fix, "packets to service %s, %s, come in at %s, which is not a port: %s", a.Service, a.VIP, a.Interface, becomes))
	}
	return all
}

// ownAtPort returns this machine's address at the first port that has one of a family.
func (b *Box) ownAtPort(is4 bool) netip.Addr {
	for _, l := range b.ports() {
		for _, a := range b.Addresses {
			if own := a.Prefix.Addr(); a.Link == l.Name && own.Is4() == is4 && !a.Prefix.IsSingleIP() && !own.IsLinkLocalUnicast() {
				return own
			}
		}
	}
	return netip.Addr{}
}

// looping reports that the kernel sends packets to a service's address back to the router that they
// came from, until their TTL is used up. A running daemon takes them before.
func (b *Box) looping(vip netip.Addr, owner string) (Finding, bool) {
	forwarding := "proc/sys/net/ipv4/ip_forward"
	if vip.Is6() {
		forwarding = "proc/sys/net/ipv6/conf/all/forwarding"
	}
	if n, _ := b.number(forwarding); n == 0 || owner != "" || b.Stats != nil {
		return Finding{}, false
	}
	r, err := b.Route(vip)
	if err != nil || r.Local || !r.Gateway.IsValid() {
		return Finding{}, false
	}
	return found(Warning, here(fmt.Sprintf("while no daemon runs, and ip route del unreachable %s before it starts", whole(vip)), fmt.Sprintf("ip route replace unreachable %s", whole(vip))),
		"no daemon runs, the kernel forwards, and %s is on no interface: its packets go back to router %s, and round until their TTL is used up", vip, r.Gateway), true
}

// ignoresARP reports whether an interface answers only for its own addresses. The greater of both
// settings applies (Documentation/networking/ip-sysctl.rst).
func ignoresARP(b *Box, name string) bool {
	all, _ := b.number("proc/sys/net/ipv4/conf/all/arp_ignore")
	own, _ := b.number("proc/sys/net/ipv4/conf/" + name + "/arp_ignore")
	return max(all, own) > 0
}

func whole(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
