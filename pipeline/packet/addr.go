package packet

import (
	"encoding/binary"
	"net/netip"
)

// mapped4 is the lower word of ::ffff:0:0, the prefix behind which Addr keeps IPv4 addresses.
const mapped4 = 0xffff << 32

// Addr is an IP address as two big-endian words; IPv4 is held as ::ffff:a.b.c.d, so one type serves
// both families. It is comparable, holds no pointer and takes 16 bytes. Its zero value is the
// address ::.
type Addr struct{ Hi, Lo uint64 }

// AddrFrom converts a; the zone of an IPv6 address is lost, and so is the difference between an
// IPv4 address and the same address mapped into IPv6. The zero netip.Addr becomes ::.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return Addr{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// AddrFrom4 makes an IPv4 address from its number, the first byte of the address being the highest.
func AddrFrom4(v uint32) Addr { return Addr{0, mapped4 | uint64(v)} }

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == mapped4>>32 }

// V4 returns the number of an IPv4 address, the inverse of AddrFrom4. It is valid only if Is4.
func (a Addr) V4() uint32 { return uint32(a.Lo) }

// Prefix returns the prefix of the address by which sources are told apart (counter.Prefixes): /24
// of IPv4, with the bits that Lo has, and /48 of IPv6.
func (a Addr) Prefix() uint64 {
	if a.Is4() {
		return a.Lo &^ 0xff
	}
	return a.Hi &^ 0xffff
}

// Netip is the inverse of AddrFrom.
func (a Addr) Netip() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b).Unmap()
}

// String returns the usual text form.
func (a Addr) String() string { return a.Netip().String() }
