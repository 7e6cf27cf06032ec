// Package route follows the kernel's interfaces, addresses, routes and neighbours over netlink, and
// builds the next-hop table of the packet path from them.
//
// The kernel decides: a packet goes where `ip route get` would send it by the main and local
// tables. Policy rules, other tables, routes for one TOS and VRFs are not supported.
//
// # How it follows
//
// A netlink notification only means that something changed. The package then reads the changed
// lists again as a whole: the neighbours alone, or everything. So no event can be misinterpreted
// (the kernel removes the routes of a link that goes down, or of a deleted address, without a
// notification for each), and a lost notification (ENOBUFS) only causes one more reading. A reading
// starts at once when the kernel has been quiet. After it there is a pause of at least 10 ms and of
// four times the duration of the last reading, so that a storm of changes costs a fifth of a CPU.
// (Reading 300,000 routes takes about a second; the pause is at most 2 s, so that tables of that
// size are still followed within seconds.) A reading that finds no difference publishes nothing.
//
// # Goroutines
//
// One goroutine receives notifications. Another reads lists, builds tables and asks for neighbours.
// Callers never block it: the newest Snapshot is in an atomic pointer, and Changed only signals
// that it is new. Start opens all sockets, in the network namespace of the calling thread; nothing
// switches namespaces later.
//
// # Neighbours
//
// The kernel sees none of our traffic, so it neither resolves the neighbours that we need nor keeps
// them fresh. RTM_NEWNEIGH with NTF_USE (neigh_add in net/core/neighbour.c) makes it do both. For
// an unknown neighbour it sends ARP requests or neighbour solicitations; for a stale one it first
// asks the old MAC address and then multicasts. Neighbours of SetNeighbours, and the gateways of
// routes that leave by our ports, are treated so for as long as they are needed; others once per
// Resolve.
//
// The package imports pipeline/nexthop and pipeline/packet, and nothing else of Sluice. Sources:
// rtnetlink(7), and the kernel's net/core/neighbour.c and net/ipv4/fib_semantics.c.
package route
