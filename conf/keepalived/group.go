package keepalived

import (
	"net/netip"
	"strconv"
	"strings"

	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// maxRange limits the addresses of a range in a group. IPVS also makes a service of each.
const maxRange = 1024

// front is an address and port of a service.
type front struct {
	address netip.Addr
	ports   service.Ports
	name    string // "": derived from the key
}

// group is a virtual_server_group.
type group struct {
	node   *node
	fronts []front
	used   bool
}

// group reads a virtual_server_group.
func (r *reader) group(n *node) {
	g := &group{node: n}
	if old := r.groups[n.value()]; old != nil {
		r.lost(n, "a group of this name was at line "+strconv.Itoa(old.node.at.Line))
		return
	}
	r.groups[n.value()] = g
	r.each(n, func(n *node) {
		if n.name() == "fwmark" {
			r.lost(n, firewallMarks)
			return
		}
		if r.fronts > draft.MaxServices {
			r.lost(n, "the groups have more than "+strconv.Itoa(draft.MaxServices)+" addresses")
			return
		}
		ports, ok := portOf(n.value())
		addresses, why := addressRange(n.name())
		switch {
		case why != "":
			r.lost(n, why)
		case !ok:
			r.lost(n, strconv.Quote(n.value())+" is not a port")
		}
		if why != "" || !ok {
			return
		}
		r.fronts += len(addresses)
		for _, a := range addresses {
			g.fronts = append(g.fronts, front{address: a, ports: ports})
		}
	})
	for i := range g.fronts {
		f := &g.fronts[i]
		if f.name = n.value(); len(g.fronts) > 1 {
			f.name += "-" + f.address.String() + "-" + f.ports.String()
		}
		if len(f.name) > 56 || strings.ContainsFunc(f.name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			f.name = ""
		}
	}
}

const firewallMarks = "Sluice has no firewall marks: write a [[service]] for each address and port of the mark"

// findFronts sets the addresses of the virtual server, or returns why it has none.
func (v *server) findFronts() (why string) {
	words := v.node.words[1:]
	switch {
	case len(words) == 0:
		return "has no address"
	case words[0] == "fwmark":
		return firewallMarks
	case words[0] == "group":
		g := v.groups[v.node.words[len(v.node.words)-1]]
		if len(words) < 2 || g == nil {
			return "the group does not exist"
		}
		g.used = true
		if v.fronts = g.fronts; len(g.fronts) == 0 {
			return "its group has no address that was carried over"
		}
		return ""
	}
	a, ok := address(words[0])
	port := ""
	if len(words) > 1 {
		port = words[1]
	}
	ports, portOK := portOf(port)
	if !ok || !portOK {
		return "must be an address and a port"
	}
	v.fronts = []front{{address: a, ports: ports}}
	return ""
}

// portOf parses a port; none and 0 are any.
func portOf(text string) (service.Ports, bool) {
	if text == "" {
		return service.AnyPort, true
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return service.Ports{}, false
	}
	if n == 0 {
		return service.AnyPort, true
	}
	return service.Ports{First: uint16(n), Last: uint16(n)}, true
}

// addressRange parses 192.0.2.1, 192.0.2.1-10, 192.0.2.250-192.0.3.10 or 192.0.2.8/29, and the same
// for IPv6.
func addressRange(text string) (all []netip.Addr, why string) {
	first, last, isRange := strings.Cut(text, "-")
	var from, to netip.Addr
	if prefix, err := netip.ParsePrefix(text); err == nil {
		from, to = prefix.Masked().Addr(), lastOf(prefix)
	} else {
		a, ok := address(first)
		if !ok {
			return nil, "is not an address"
		}
		from, to = a, a
		if isRange {
			if to, ok = rangeEnd(a, last); !ok {
				return nil, "is not a range of addresses"
			}
		}
	}
	for a := from; len(all) <= maxRange; a = a.Next() {
		all = append(all, a)
		if a == to || !a.IsValid() {
			break
		}
	}
	if len(all) > maxRange || to.Less(from) {
		return nil, "is a range of more than " + strconv.Itoa(maxRange) + " addresses, or is descending"
	}
	return all, ""
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// rangeEnd parses the end of a range: a whole address or its last part, decimal in IPv4,
// hexadecimal in IPv6.
func rangeEnd(from netip.Addr, text string) (netip.Addr, bool) {
	if a, ok := address(text); ok {
		return a, a.Is4() == from.Is4()
	}
	if from.Is4() {
		n, err := strconv.ParseUint(text, 10, 8)
		b := from.As4()
		b[3] = byte(n)
		return netip.AddrFrom4(b), err == nil
	}
	n, err := strconv.ParseUint(text, 16, 16)
	b := from.As16()
	b[14], b[15] = byte(n>>8), byte(n)
	return netip.AddrFrom16(b), err == nil
}
