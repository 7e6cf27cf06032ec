// Package sched chooses a backend for a new connection. One scheduler is one file.
//
//	name    takes                                                          memory         per Pick
//	rr      the next in the list, whatever its weight                      State          O(1)
//	wrr     the next, in bursts by weight: 4, 2, 1 gives a a a b a b c     State          O(n)
//	lc      least 256*active + inactive                                    Loads          O(n)
//	wlc     least (256*active + inactive) / weight                         Loads          O(n)
//	sed     least (active + 1) / weight                                    Loads          O(n)
//	nq      the first with no active connection, else as sed               Loads          O(n)
//	sh      by client address, 256 buckets dealt by weight, with fallback  -              O(1)
//	dh      by VIP, 256 buckets dealt one each, with fallback              -              O(1)
//	mh      by client address, Maglev table of 65537 slots, with fallback  -              O(1)
//	random  at random, by weight                                           State          O(log n)
//	p2c     of two drawn by weight, the one with less load per weight      State, Loads   O(log n)
//
// mh can hash the client's port besides the address, like IPVS's mh-port. Its Pick is O(n) for the
// few clients that it finds nothing for in the table, which takes an outage of most backends.
//
// All skip candidates of weight 0 and those that are down. Where several are equally good, the
// first in the list wins; the list is in IPVS's order, latest added first. Each scheduler's file
// names the file of the kernel (net/netfilter/ipvs) that makes the same choices.
//
// # Ownership
//
// A Scheduler is immutable: it is made with a table and used by all workers. What changes from Pick
// to Pick is State and counter.Loads (written by the owning worker, read by all). Of State, the
// turn of rr and wrr is one word per service that all workers share (counter.Turns): Pick computes
// the next one, and the caller publishes it by a compare-and-swap, or picks again if another worker
// was faster. So several workers choose as one would, Pick takes no lock, and new tables need no
// action: rr and wrr compare the turn with their list.
//
// Connections that workers open at the same moment do not see each other in Loads. With equal
// weights, lc, wlc, sed and nq are then apart by the number of workers at most.
//
// # When the list changes
//
// rr stays with the backend it served last; if that one is gone, its follower is next. wrr returns
// to the head and keeps the required weight, cut to the new maximum and rounded to the new step. sh
// and dh distribute their buckets again. mh moves few clients besides those of removed backends,
// and none when a backend goes down, is drained or comes back. A backend that goes down is no
// change to rr and wrr, just as overload is none to IPVS; a changed weight is one to wrr.
//
// # Differences from IPVS
//
//   - wrr does not see a list for which no connection came.
//   - mh falls back when the chosen backend is unusable; IPVS without mh-fallback refuses the
//     connection. Its fallback looks up further slots in the Maglev table like mh-fallback's, but a
//     bounded number of them.
//   - mh hashes with the given secret instead of a published constant, so that no sender can aim at
//     one backend; hashes all 128 bits of an IPv6 address instead of folding them to 32; has 65537
//     slots instead of 4093; uses exact weights instead of 6 bits; sorts the backends by address,
//     so that the order of the list does not matter.
//   - p2c draws from exactly the sum of weights; twos draws from one more, which favours the first
//     a little.
//   - random does not exist in IPVS.
//   - sh and dh fall back, too, where IPVS refuses the connection unless sh gets the flag
//     sh-fallback: by another hash than that one's, which distributes the clients of an
//     unusable backend over all others.
//   - sh-port and other table sizes are not offered.
//   - Products of load and weight are 64 bits wide throughout, so that no load is too high to be
//     compared.
//   - Weights are at most 65535, as in ipvsadm.
//
// As in IPVS, sh and dh know 256 buckets: of a list with more weights (sh) or backends (dh)
// than that, the rest gets nothing.
package sched
