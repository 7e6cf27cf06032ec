// Package decap is the receiving end of IP-in-IP tunnels as an XDP program, for backends of mode
// tun on kernels without the modules ipip, ip6_tunnel and sit. It decapsulates IPv4 or IPv6 in IPv4
// (RFC 2003, RFC 4213) and in IPv6 (RFC 2473) and passes everything else. The inner packet then
// arrives as if it had come without the tunnel, so the host needs the VIP on lo and no strict
// rp_filter.
//
// On veth the program runs in the driver, which needs an MTU of at most about 3500 bytes at the
// peer.
//
// The generated files are committed: building this package needs no C compiler. `go generate` needs
// clang-14 and llvm-strip; the bytes of the object depend on clang's version.
package decap
