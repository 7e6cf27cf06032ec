// Package truepath carries health probes on the way that a tun or dr service's packets take: to the
// service's address, inside a tunnel or with the backend's MAC address, so that a backend without
// the address or the decapsulator is found out. Backends need nothing for it that the mode itself
// doesn't need.
//
// # The detour
//
// The kernel's sockets do the probing, TCP and all; but a socket connects to an address, and all
// backends of a service share theirs, which this host may have itself. So the Detour gives each
// backend of each service a target: an address that exists on this host only, routed to a TAP
// device of its own. What a socket sends to a target comes out of the device, and the Detour makes
// of it what the backend is to get:
//
//	socket to target  ──TAP──►  our address to service  ──encapsulated or not──►  AF_PACKET, to the next hop
//	target to socket  ◄──TAP──  service to our address  ◄──XDP redirects to the TAP (engine/steer)──  backend
//
// Both ways go through one table of flows: each socket gets a port of our address towards the
// backend, from a range that the kernel takes none from for connections of its own and that fullnat
// keeps out of. The port says whose an answer is, for all backends answer from the same address.
// Encapsulation, next hop and MTU are those of the packet path, by the same code
// (pipeline/rewrite).
//
// The inner packet has a TTL of 1: a backend that has the address receives it, and one that hasn't,
// but forwards packets, must not send it on - by way of this very balancer it could reach another
// backend, which would answer for it. A backend that is itself a balancer in front of the servers
// must therefore be checked with via = "direct".
//
// # What the host sees
//
// A device sluice-probeN, which is gone when the process ends, however it ends, and with it all of
// the following. It has the address 192.0.0.8 (RFC 7600's dummy address, never a destination on any
// wire) and one in a random fd00::/8 network, and routes to a random /16 in 240.0.0.0/4 and to that
// network. None is added where a route of the host's is already. The device answers no ARP and
// makes no link-local address; a firewall that drops what it doesn't know must let it in and out.
//
// # Limits
//
//   - Answers must come in by one of the ports, to the address of that port; a backend on another
//     way back than that is checked with via = "direct".
//   - Answers and datagrams to send in one piece: fragments are the kernel's, which drops them. A
//     datagram to send may have 1,232 bytes; TCP is told to send no larger segments than fit
//     everywhere.
//   - 65,000 backends of services in all.
//
// # Who runs
//
// One goroutine reads the device, and owns the flows. Everything else is called by the control
// plane and by probes, and meets that goroutine at atomic pointers and at a mutex for words about
// what went wrong.
package truepath
