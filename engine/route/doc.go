// Package route follows what the kernel knows about the way out - interfaces, addresses, routes,
// neighbours - and turns it into the next-hop table of the packet path.
//
// The kernel stays in charge: whatever `ip route get` would answer from the main and local tables
// is what packets do. Policy rules, other tables, routes for one TOS and VRFs are not followed.
//
// # How it follows
//
// Netlink notifications are read as "something changed", nothing more. What changed is then read
// anew as a whole: neighbours alone, or everything. There is no event to misinterpret (the kernel
// removes the routes of a link that goes down, or of a deleted address, without a word about each),
// and a lost notification (ENOBUFS) is one more reason to read. Readings start at once when the
// kernel has been quiet, and pause for 10 ms at least and for four times the time that the last one
// took, so that a storm of changes costs a fifth of a core. (Reading 300,000 routes takes about a
// second; the pause ends at 2 s, so that tables of that size are still followed in seconds.) A
// reading that finds no difference publishes nothing.
//
// # Who runs
//
// One goroutine reads notifications; another does the rest: reads lists, builds tables, asks for
// neighbours. Readers never make it wait: the newest Snapshot lies in an atomic pointer and Changed
// only says that there is a new one. All sockets are opened by Start, in the network namespace of
// the thread that calls it; nothing switches namespaces later.
//
// # Neighbours
//
// The kernel sees none of our traffic, so it neither resolves the neighbours that we need nor keeps
// them fresh. We make it do both by saying "I use this one" (RTM_NEWNEIGH with NTF_USE, neigh_add
// in net/core/neighbour.c): for an unknown neighbour it sends ARP requests or neighbour
// solicitations itself, for a stale one it asks the old MAC address and falls back to asking
// everybody. Neighbours on the Keep list, and the gateways of routes that leave by our ports, are
// treated so for as long as they are wanted; others once per Resolve.
package route
