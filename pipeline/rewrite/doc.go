// Package rewrite changes frames on their way: one file for each forwarding mode, and one for our
// own answers.
//
// All functions work in place on the chunk mem that holds the frame, take the Meta that
// packet.Parse made of it, and check nothing again. They allocate nothing, keep no state, and may
// be called for different frames from any goroutines at once. Bytes that a mode does not own are
// never touched, and checksums follow changes by difference (RFC 1624), so that a wrong one stays
// as wrong as it was.
//
// The order on the way of a forwarded frame is: ttl, then one of nat, icmp and tun, then the link.
// Meta's offsets, Family and TTL stay true throughout; its addresses and ports go on naming the
// packet as it was received, except after an answer of our own.
package rewrite
