// Package decap is the receiving end of IP-in-IP tunnels as an XDP program: backends of mode tun
// need it where the kernel has no ipip, ip6_tunnel and sit modules. It unwraps IPv4 or IPv6 in IPv4
// (RFC 2003, RFC 4213) and in IPv6 (RFC 2473) and leaves everything else alone. The packet inside
// then arrives as if it had come without the tunnel, so the host needs the VIP on lo and no strict
// rp_filter.
//
// On veth the program runs in the driver, which for that needs an MTU of at most about 3500 bytes
// at the peer.
//
// The generated files are committed: building this package takes no C compiler. `go generate` needs
// clang-14 and llvm-strip, of which the object's bytes depend on the first.
package decap

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel decap decap.c
