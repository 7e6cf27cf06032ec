package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernelRules returns the rules of `ip rule` that are not the kernel's own three.
func kernelRules() (own []netlink.Rule) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.RuleList(family)
		if err != nil {
			continue
		}
		for _, r := range all {
			if r.Priority != 0 && r.Priority != 32766 && r.Priority != 32767 {
				r.Family = family
				own = append(own, r)
			}
		}
	}
	return own
}

// rulesFor returns the rules that may decide about packets between two addresses. src may be
// invalid: packets of this machine.
func (b *Box) rulesFor(src, dst netip.Addr) (all []netlink.Rule) {
	for _, r := range b.Rules {
		if (r.Family == netlink.FAMILY_V4) == dst.Is4() && matches(r.Dst, dst) && matches(r.Src, src) {
			all = append(all, r)
		}
	}
	return all
}

// matches reports whether an address is in a network of a rule; nil is every network.
func matches(n *net.IPNet, a netip.Addr) bool {
	return n == nil || a.IsValid() && n.Contains(a.AsSlice())
}

// checkRules reports rules that send backends' packets by another table than main. Sluice follows
// main only; the kernel, which sends health checks, follows the rules.
func checkRules(b *Box) []Finding {
	var led causes
	for _, t := range b.targets() {
		rules := b.rulesFor(netip.Addr{}, t.address)
		if len(rules) == 0 {
			continue
		}
		r, err := b.Route(t.address)
		if err == nil && (r.Table == 0 || r.Table == unix.RT_TABLE_MAIN || r.Table == unix.RT_TABLE_LOCAL) {
			continue
		}
		command := "ip " + six(t.address) + "rule del priority " + strconv.Itoa(rules[0].Priority)
		led.add(command, t, here("and put the route that is meant into the main table", command),
			fmt.Sprintf("a rule of `ip rule` decides about packets to backend %%s: %s; Sluice follows the main table only, and the kernel, which sends health checks, the rule", rules[0]))
	}
	return led.problems()
}
