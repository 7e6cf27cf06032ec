package nexthop

import (
	"math/bits"
	"net/netip"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// Kind is what a route does with the packets that match it.
type Kind uint8

// The kinds.
const (
	Unicast Kind = iota // sends them to a neighbour at one of the NIC ports
	// Blackhole: sends none: blackhole, unreachable, prohibit, own and broadcast addresses
	Blackhole
	Foreign // sends them to an interface that is not one of the NIC ports
)

// Leg is one path of a route.
type Leg struct {
	// Via: gateway, of either family; the zero Addr: the destination itself is the neighbour
	// (on-link)
	Via  netip.Addr
	Port uint8  // index into the ports
	VLAN uint16 // 802.1Q id, 0: untagged
	MTU  uint16 // of the IP packet in bytes, 0: the port's
	Kind Kind
}

// Route is a route of the kernel. Its first leg is part of it: most routes have no other.
type Route struct {
	Prefix netip.Prefix
	Via    netip.Addr
	Port   uint8
	VLAN   uint16
	MTU    uint16
	Kind   Kind
	Metric uint32 // the lowest wins among equal prefixes
	Also   []Leg  // the other legs of a multipath route
}

// Neighbour is a neighbour with a known MAC address.
type Neighbour struct {
	Addr netip.Addr
	Port uint8
	VLAN uint16
	MAC  [6]byte
}

// PortInfo is what a frame needs of a NIC port.
type PortInfo struct {
	MAC  [6]byte
	MTU  uint16 // of the IP packet in bytes
	Up   bool   // administratively up, and with carrier
	Name string
}

// Hop identifies a neighbour to send packets to, with or without a known MAC address.
type Hop struct {
	Addr netip.Addr
	Port uint8
	VLAN uint16
}

// Table is a complete next-hop table. It is immutable: any goroutine may read it at any time.
type Table struct {
	hosts   hosts
	v4      ranges4
	v6      ranges6
	entries []entry // entries[noRoute] is the one of no route
	legs    []Leg   // of each entry; apart from it, since lookups do not read it

	default4, default6 uint32 // entry of the default route, noRoute if there is none
}

// entry is the result for all packets of a range, or to a host. It is either final, or a group with
// the members entries[first:first+members].
type entry struct {
	link    rewrite.Link // valid if reason is None
	reason  counter.Reason
	first   uint32
	members uint32 // 0: final
}

// noRoute is the index of the entry for destinations without a route.
const noRoute = 0

// Lookup returns the link that a packet to dst leaves by. If there is none, link is nil and the
// reason is NoRoute, PortDown or NoNeighbour; for NoNeighbour, NextHop returns the neighbour to
// resolve. The link belongs to the table and must only be read. Lookup does not allocate.
func (t *Table) Lookup(dst packet.Addr) (link *rewrite.Link, reason counter.Reason) {
	w := &t.entries[t.find(dst)]
	if w.reason != counter.None {
		return nil, w.reason
	}
	return &w.link, counter.None
}

// NextHop returns the neighbour that packets to dst are sent to: dst itself if it is on-link, else
// the gateway. ok is false if dst has no route by a NIC port that is up.
func (t *Table) NextHop(dst packet.Addr) (hop Hop, ok bool) {
	i := t.find(dst)
	if r := t.entries[i].reason; r != counter.None && r != counter.NoNeighbour {
		return Hop{}, false
	}
	leg := &t.legs[i]
	hop = Hop{leg.Via, leg.Port, leg.VLAN}
	if !hop.Addr.IsValid() {
		hop.Addr = dst.Netip()
	}
	return hop, true
}

// DefaultPort returns the NIC port that the default route of a family leaves by, if it leaves by
// one only. known is false if the family has no default route.
func (t *Table) DefaultPort(is4 bool) (port uint8, one, known bool) {
	i := t.default6
	if is4 {
		i = t.default4
	}
	if i == noRoute {
		return 0, false, false
	}
	paths := t.legs[i : i+1]
	if w := &t.entries[i]; w.members != 0 {
		paths = t.legs[w.first : w.first+w.members]
	}
	for _, leg := range paths {
		if leg.Kind != Unicast || leg.Port != paths[0].Port {
			return 0, false, true
		}
	}
	return paths[0].Port, true, true
}

// find returns the index of the entry for packets to dst.
func (t *Table) find(dst packet.Addr) uint32 {
	if i := t.hosts.get(dst); i != noRoute {
		return i
	}
	return t.route(dst)
}

// route is find without the neighbours: the entry of the route to dst.
func (t *Table) route(dst packet.Addr) uint32 {
	var i uint32
	if dst.Is4() {
		i = t.v4.entries[t.v4.find(dst.V4())]
	} else {
		i = t.v6.entries[t.v6.find(dst)]
	}
	if w := &t.entries[i]; w.members != 0 {
		return w.first + memberOf(dst, w.members)
	}
	return i
}

// memberOf distributes addresses evenly over 0..n-1. It has no secret: hosts with equal tables
// choose alike.
func memberOf(a packet.Addr, n uint32) uint32 {
	return uint32(mix(a) >> 32 * uint64(n) >> 32)
}

// mix hashes an address: the folded product of 64 by 64 bits depends on every bit of both words.
// (It does not in bf58:476d:1ce4:e5b9::/64, which is reserved: RFC 4291 assigns only 2000::/3.)
func mix(a packet.Addr) uint64 {
	hi, lo := bits.Mul64(a.Lo^0x9e3779b97f4a7c15, a.Hi^0xbf58476d1ce4e5b9)
	return hi ^ lo
}
