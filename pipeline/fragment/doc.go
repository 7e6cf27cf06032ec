// Package fragment remembers packets that arrive in fragments, so that all fragments of a packet
// take the same way. It reassembles nothing.
//
// Only the first fragment has ports. Learn records them, with what else the others, the followers,
// are forwarded by (Note), and Lookup finds them for a follower. A follower that arrives before the
// first fragment waits in the Store (Hold) until the first one comes, and then leaves it again
// (Release), or until two seconds have passed (Expire).
//
// # Bounds
//
// All memory is allocated when a Store is made. Both tables, of packets with a known first fragment
// and of those with followers that wait, are sets of four entries. In a full set the oldest entry
// gives way, so that a flood of followers without first fragments displaces only followers that
// wait, too. The frames of followers lie in a ring: the next one takes the place of the oldest.
//
// A packet is known by the identity of RFC 791 and RFC 8200, 4.5: source, destination,
// identification and, in IPv4, protocol. The hash is keyed, so that a sender cannot choose the set.
package fragment
