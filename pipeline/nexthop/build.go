package nexthop

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// Build makes the table. It is a pure function and retains none of its arguments. Neighbours are
// those with a MAC address, in any order. Invalid prefixes are ignored; a leg with a Port that is
// no index into ports is Foreign. A million routes take about a second.
func Build(ports []PortInfo, routes []Route, neighbours []Neighbour) *Table {
	b := builder{
		ports:  ports,
		macs:   make(map[Hop][6]byte, len(neighbours)),
		known:  make(map[Leg]uint32),
		groups: make(map[string]uint32),
		table:  &Table{},
	}
	for _, n := range neighbours {
		b.macs[Hop{unmapped(n.Addr), n.Port, n.VLAN}] = n.MAC
	}
	b.add(entry{reason: counter.NoRoute}, Leg{Kind: Blackhole})
	b.cutRoutes(routes)
	b.addHosts(neighbours)
	return b.table
}

type builder struct {
	ports  []PortInfo
	macs   map[Hop][6]byte   // of resolved neighbours
	known  map[Leg]uint32    // entry of each leg seen so far
	groups map[string]uint32 // entry of each group seen so far, by the indexes of its members
	table  *Table
}

// unmapped returns the form of an address that keys use: IPv4 not mapped into IPv6, no zone.
func unmapped(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// add appends an entry and returns its index.
func (b *builder) add(w entry, leg Leg) uint32 {
	b.table.entries = append(b.table.entries, w)
	b.table.legs = append(b.table.legs, leg)
	return uint32(len(b.table.entries) - 1)
}

// cutRoutes fills the ranges of both families.
func (b *builder) cutRoutes(routes []Route) {
	order := sortRoutes(routes)
	spans := make([]span, len(order))
	for i, o := range order {
		spans[i] = span{o.first, last(o.first, int(o.bits)), b.routeEntry(&routes[o.index])}
		b.noteDefault(&routes[o.index], spans[i].entry)
	}
	t := b.table
	n, _ := slices.BinarySearchFunc(order, 1, func(o ordered, _ int) int { return cmp.Compare(o.family, 1) })
	starts, ways := cut(spans[:n], packet.AddrFrom4(0), packet.AddrFrom4(^uint32(0)))
	starts4 := make([]uint32, len(starts))
	for i, a := range starts {
		starts4[i] = a.V4()
	}
	t.v4 = makeRanges4(starts4, slices.Clone(ways))
	starts, ways = cut(spans[n:], packet.Addr{}, packet.Addr{Hi: ^uint64(0), Lo: ^uint64(0)})
	t.v6 = makeRanges6(slices.Clone(starts), slices.Clone(ways))
}

// noteDefault records the entry of a route if it is the default route of its family.
func (b *builder) noteDefault(r *Route, entry uint32) {
	switch {
	case r.Prefix.Bits() != 0:
	case r.Prefix.Addr().Is4():
		b.table.default4 = entry
	default:
		b.table.default6 = entry
	}
}

// ordered is the sort key of a route: small, so that a million of them are sorted quickly.
type ordered struct {
	first  packet.Addr
	metric uint32
	index  uint32 // into the routes
	bits   uint8  // length of the prefix in 128-bit terms
	family uint8  // 0: IPv4, 1: IPv6
}

// sortRoutes orders the routes as cut requires, IPv4 before IPv6, and leaves only the winner of
// each prefix.
func sortRoutes(routes []Route) []ordered {
	order := make([]ordered, 0, len(routes))
	for i := range routes {
		p := routes[i].Prefix.Masked()
		if !p.IsValid() {
			continue
		}
		o := ordered{packet.AddrFrom(p.Addr()), routes[i].Metric, uint32(i), uint8(p.Bits()), 1}
		if p.Addr().Is4() {
			o.bits, o.family = o.bits+96, 0
		}
		order = append(order, o)
	}
	slices.SortFunc(order, func(a, b ordered) int {
		if a.first != b.first || a.family != b.family {
			return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.first.Hi, b.first.Hi), cmp.Compare(a.first.Lo, b.first.Lo))
		}
		return cmp.Or(cmp.Compare(a.bits, b.bits), cmp.Compare(a.metric, b.metric), cmp.Compare(a.index, b.index))
	})
	return slices.CompactFunc(order, func(a, b ordered) bool {
		return a.first == b.first && a.bits == b.bits && a.family == b.family
	})
}

// last returns the highest address of the prefix that starts at first, with a length of bits in
// 128-bit terms.
func last(first packet.Addr, bits int) packet.Addr {
	if bits >= 64 {
		return packet.Addr{Hi: first.Hi, Lo: first.Lo | ^uint64(0)>>(bits-64)}
	}
	return packet.Addr{Hi: first.Hi | ^uint64(0)>>bits, Lo: ^uint64(0)}
}

// routeEntry returns the entry of a route: of its leg, or of the group of its best legs.
func (b *builder) routeEntry(r *Route) uint32 {
	first := b.legEntry(Leg{r.Via, r.Port, r.VLAN, r.MTU, r.Kind})
	if len(r.Also) == 0 {
		return first
	}
	best, members := b.rank(first), []uint32{first}
	for _, leg := range r.Also {
		i := b.legEntry(leg)
		switch rank := b.rank(i); {
		case rank < best:
			best, members = rank, append(members[:0], i)
		case rank == best:
			members = append(members, i)
		}
	}
	if len(members) == 1 {
		return members[0]
	}
	return b.groupEntry(members)
}

// rank orders the legs of a multipath route: 0 carries packets (an on-link leg as soon as the
// neighbour is there); 1 lacks its gateway's MAC address; 2 carries none.
func (b *builder) rank(i uint32) int {
	switch b.table.entries[i].reason {
	case counter.None:
		return 0
	case counter.NoNeighbour:
		if !b.table.legs[i].Via.IsValid() {
			return 0
		}
		return 1
	}
	return 2
}

// groupEntry returns the entry that distributes its packets over the members. Members of a group
// are adjacent copies: one index leads to the group, the next to the link.
func (b *builder) groupEntry(members []uint32) uint32 {
	var key []byte
	for _, i := range members {
		key = binary.NativeEndian.AppendUint32(key, i)
	}
	if i, ok := b.groups[string(key)]; ok {
		return i
	}
	first := uint32(len(b.table.entries))
	for _, i := range members {
		b.add(b.table.entries[i], b.table.legs[i])
	}
	group := b.add(entry{reason: counter.NoRoute, first: first, members: uint32(len(members))}, Leg{})
	b.groups[string(key)] = group
	return group
}

// legEntry returns the entry of a leg; equal legs have one.
func (b *builder) legEntry(leg Leg) uint32 {
	leg.Via = unmapped(leg.Via)
	if i, ok := b.known[leg]; ok {
		return i
	}
	w := entry{}
	switch {
	case leg.Kind == Blackhole:
		w.reason = counter.NoRoute
	case leg.Kind != Unicast || int(leg.Port) >= len(b.ports) || !b.ports[leg.Port].Up:
		w.reason = counter.PortDown
	default:
		w = b.linkEntry(leg, leg.Via)
	}
	i := b.add(w, leg)
	b.known[leg] = i
	return i
}

// linkEntry returns the entry for a neighbour at the end of the leg. The zero Addr is never
// resolved, so that an on-link leg has NoNeighbour for all addresses but those in hosts.
func (b *builder) linkEntry(leg Leg, neighbour netip.Addr) entry {
	mac, ok := b.macs[Hop{neighbour, leg.Port, leg.VLAN}]
	if !ok || !neighbour.IsValid() {
		return entry{reason: counter.NoNeighbour}
	}
	port := &b.ports[leg.Port]
	mtu := port.MTU
	if leg.MTU != 0 && leg.MTU < mtu {
		mtu = leg.MTU
	}
	return entry{link: rewrite.Link{DMAC: mac, SMAC: port.MAC, VLAN: leg.VLAN, MTU: mtu, Port: leg.Port}}
}

// addHosts adds an entry for each neighbour that packets to its address reach directly: its route
// is on-link, and the address is resolved at that port and VLAN.
func (b *builder) addHosts(neighbours []Neighbour) {
	t := b.table
	t.hosts = newHosts(len(neighbours))
	for _, n := range neighbours {
		if !n.Addr.IsValid() {
			continue
		}
		addr := packet.AddrFrom(n.Addr)
		i := t.route(addr)
		leg := t.legs[i]
		if t.entries[i].reason != counter.NoNeighbour || leg.Via.IsValid() {
			continue
		}
		if w := b.linkEntry(leg, unmapped(n.Addr)); w.reason == counter.None {
			t.hosts.put(addr, b.add(w, leg))
		}
	}
}
