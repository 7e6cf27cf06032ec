// Package nexthop answers one question of the packet path: which port does a packet to this address
// leave by, with which MAC addresses, VLAN and MTU?
//
// A Table is an immutable value that Build makes out of three lists: our ports, the kernel's
// routes, the kernel's neighbours. All decisions fall in Build; a lookup only finds the answer:
//
//	hosts   open-addressed array: address of a neighbour  -> way
//	v4, v6  sorted disjoint ranges: any other address     -> way
//	way     a finished link, or the reason why there is none
//
// A neighbour stands in hosts only if its own route is on-link at the neighbour's port and VLAN, so
// one probe answers for every backend in a connected network. What the probe misses lies in exactly
// one range: the nested prefixes of the routing table are cut into disjoint ranges beforehand (the
// start of each is enough, it ends where the next one starts), and one binary search takes the
// place of a longest-prefix match. A gateway's link is part of the range's way.
//
// Choices, where the kernel leaves one or has none:
//   - The longest prefix wins, then the lowest metric, then the route that comes first in the list.
//   - A winning route whose port has no carrier keeps winning, as in the kernel: its packets are
//     dropped with counter.PortDown and do not move over to a route with a higher metric.
//   - Legs of a multipath route share its destinations by a fixed hash of the destination address,
//     so every worker and every box chooses alike and packets of a flow stay in order. Legs that
//     can carry packets are preferred to legs whose neighbour is unresolved, those to legs whose
//     port is down. A leg of weight n is listed n times.
package nexthop
