// Package truepath carries health probes along the path of the packets of a tun or dr service: to
// the service's address, in a tunnel or with the backend's MAC address. So a backend without the
// address or the decapsulator fails its check. Backends need no setup beyond that of the mode.
//
// # The detour
//
// The kernel's sockets send the probes, TCP included. But a socket connects to an address, and all
// backends of a service share the service's address, which this host may have itself. So the Detour
// gives each backend of each service a target: an address that exists on this host only, routed to
// a TAP device of its own. The Detour reads what a socket sends to a target from the device and
// converts it into the packet for the backend:
//
//	socket to target ─TAP─► our address to service ─encapsulated or not─► AF_PACKET
//	target to socket ◄─TAP─ service to our address ◄─redirected to the TAP by XDP─ backend
//
// Both directions use one table of flows. Each socket gets a port of our address towards the
// backend. The ports are from a range that the kernel does not use for its own connections and that
// fullnat does not use. The port identifies the flow of an answer, because all backends answer from
// the same address. Encapsulation, next hop and MTU are those of the packet path, by the same code
// (pipeline/rewrite).
//
// The inner packet has a TTL of 1. A backend that has the address receives it. A backend that does
// not have it, but forwards packets, must not send it on: through this balancer it could reach
// another backend, which would answer instead. A backend that is itself a balancer in front of the
// servers must therefore be checked with via = "direct".
//
// # What the host sees
//
// A device sluice-probeN and what belongs to it; all of it disappears when the process ends, in
// whatever way. The device has the address 192.0.0.8 (RFC 7600's dummy address, never a destination
// on any link), an address in a random fd00::/8 network, and routes to a random /16 in 240.0.0.0/4
// and to that network. No route is added where the host has one. The device answers no ARP and has
// no link-local address; a firewall that drops unknown interfaces must let it in and out.
//
// # Limits
//
//   - Answers must arrive on one of the ports, at the address of that port; a backend with another
//     return path is checked with via = "direct".
//   - Answers and sent datagrams must not be fragmented: fragments go to the kernel, which drops
//     them. A datagram may have 1,232 bytes; the MSS option limits TCP segments to a size that fits
//     everywhere.
//   - 65,000 backends of services in all.
//
// # Goroutines
//
// One goroutine reads the device and owns the flows. The control plane and the probes call
// everything else; they share atomic pointers with that goroutine, and a mutex for error texts.
//
// The package imports pipeline/counter, packet, rewrite and service. Sources: tun(4), RFC 7600, RFC
// 2003, and Katran's health check forwarding for the idea.
package truepath
