// Package rx receives the frames of the generator and measures loss, order and latency.
//
//   - Kernel: an XDP program counts and drops. It keeps up with several million frames per second.
//   - XSK: the same program hands the frames to AF_XDP sockets of github.com/asavie/xdp, one for
//     each queue, and user space counts them. Slower, but as an application would see them.
//
// Either takes every TCP and UDP frame of the interface while it is open; ARP, ND and ICMP go to
// the kernel. A veth with a receiver also accepts frames that XDP sends to it.
//
// # Order, duplicates, loss
//
// The receiver remembers the last 64 sequence numbers of each flow. A frame that arrives after a
// later one of its flow is reordered. One with a number that has been seen is a duplicate. One that
// is more than 64 behind counts as reordered. The number of lost frames of a flow is the number
// sent minus Flow.Distinct.
package rx
