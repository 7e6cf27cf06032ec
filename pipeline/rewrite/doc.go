// Package rewrite changes frames on their way: one file for each forwarding mode, and one for
// Sluice's own answers. prepared.go does the same for the fast path with values that were computed
// beforehand.
//
// All functions work in place on the chunk mem that holds the frame, take the Meta that
// packet.Parse made of it, and check nothing again. They do not allocate, have no state, and may be
// called for different frames from any goroutine. Bytes that a mode does not own are never changed,
// and checksums are updated by difference (RFC 1624), so that a wrong one stays wrong by the same
// amount.
//
// The order for a forwarded frame is: ttl, then one of nat, icmp and tun, then the link. Meta's
// offsets, Family and TTL stay valid; its addresses and ports stay those of the received packet,
// except after an answer.
package rewrite
