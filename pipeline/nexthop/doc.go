// Package nexthop finds the next hop of a packet: the NIC port that it leaves by, with MAC
// addresses, VLAN and MTU.
//
// A Table is an immutable value that Build makes from three lists: NIC ports, routes and neighbours
// of the kernel. Build makes all decisions; a lookup only finds the result:
//
//	hosts   open-addressed array: address of a neighbour  -> entry
//	v4, v6  sorted disjoint ranges: any other address     -> entry
//	entry   a complete link, or the reason why there is none
//
// A neighbour is in hosts only if its own route is on-link at the neighbour's port and VLAN, so one
// probe is enough for every backend in a connected network. Every other address is in exactly one
// range: the nested prefixes of the routing table are cut into disjoint ranges beforehand (each is
// stored by its start and ends where the next one starts), and one binary search replaces a
// longest-prefix match. The entry of a range contains the link to the gateway.
//
// Choices where the kernel leaves one or has none:
//
//   - The longest prefix wins, then the lowest metric, then the route that comes first in the list.
//   - A winning route at a port without carrier keeps winning, as in the kernel: its packets are
//     dropped with counter.PortDown and do not use a route with a higher metric.
//   - Legs of a multipath route divide its destinations by a fixed hash of the destination address,
//     so every worker and every host chooses alike and the packets of a flow stay in order. Legs
//     that can carry packets are preferred to legs with an unresolved neighbour, those to legs at a
//     port that is down. A leg of weight n is listed n times.
package nexthop
