// Package rx receives what the generator sent, and says how much of it came, in which order, and
// how long it took.
//
//   - Kernel: an XDP program counts and drops. It keeps up with several million frames per second.
//   - XSK: the same program hands the frames to AF_XDP sockets of github.com/asavie/xdp, one for
//     each queue, and user space looks at them. Slower, but that is what an application would see.
//
// Either takes every TCP and UDP frame of the interface as long as it is open; ARP, ND and ICMP go
// to the kernel as ever. A veth that has a receiver also takes frames that XDP sends to it.
//
// # Order, duplicates, loss
//
// Of each flow, the last 64 sequence numbers are remembered. A frame that comes after a later one
// of its flow is reordered; one whose number has been seen is a duplicate. One that is more than 64
// behind counts as reordered. What of a flow is lost is told by those who know how many were sent
// (Flow.Distinct).
package rx
