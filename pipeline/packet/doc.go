// Package packet reads headers: Parse turns the bytes of a frame into a Meta and checks every
// length, so that later stages use its offsets and check nothing again. FastParse4 and FastParse6
// do so for the usual packets of the fast path. The package also has the arithmetic of Internet
// checksums.
//
// # What is accepted
//
// Parse accepts TCP and UDP over IPv4 and IPv6, and ICMP errors about them, in untagged frames or
// with one 802.1Q or 802.1ad tag. Everything else is dropped by name (counter.Reason). Choices that
// the RFCs leave open:
//
//   - IPv4 options are refused (IPOptions): with them gone the header has one length. IPVS forwards
//     such packets.
//   - IPv6 hop-by-hop options, destination options and routing headers without segments left are
//     skipped, at most eight of them. A routing header with segments left names another
//     destination than the one in the IP header, so it is dropped like all other extension headers
//     (IPOptions).
//   - Fragments hold no ports, or not all of the packet: Parse refuses them, and ParseFragment
//     reads what they have. An IPv6 atomic fragment is a whole packet (RFC 6946): its fragment
//     header is skipped as extension headers are.
//   - An IPv6 packet from or to an IPv4-mapped address is refused (Martian): such addresses are not
//     allowed on the wire (RFC 4291, 2.5.5.2; draft-itojun-v6ops-v4mapped-harmful), and Addr could
//     not tell them from IPv4.
//   - Payload after the length that IP announces is Ethernet padding and not part of the packet;
//     payload after the length that UDP announces is the receiver's to judge.
//   - The IPv4 header checksum is verified, since the kernel's own check is bypassed. Checksums of
//     TCP, UDP and ICMP are the receiver's: they are never verified and never repaired.
package packet
