package packet_test

import (
	"net/netip"
	"testing"

	"sluice/pipeline/packet"
)

func TestAddr(t *testing.T) {
	for _, s := range []string{"0.0.0.0", "192.0.2.7", "255.255.255.255", "::", "::1", "2001:db8::7", "ffff::ffff"} {
		want := netip.MustParseAddr(s)
		a := packet.AddrFrom(want)
		if got := a.Netip(); got != want || a.String() != s {
			t.Errorf("%s came back as %v (%s)", s, got, a)
		}
		if a.Is4() != want.Is4() {
			t.Errorf("%s: Is4 is %v", s, a.Is4())
		}
	}
	a := packet.AddrFrom4(0xc0000207)
	if a.V4() != 0xc0000207 || a.String() != "192.0.2.7" || a != packet.AddrFrom(netip.MustParseAddr("192.0.2.7")) {
		t.Errorf("192.0.2.7 from its number is %v, %#x", a, a.V4())
	}
	if packet.AddrFrom(netip.Addr{}) != (packet.Addr{}) {
		t.Error("the zero netip.Addr doesn't give the zero Addr")
	}
	if packet.AddrFrom(netip.MustParseAddr("fe80::1%eth0")) != packet.AddrFrom(netip.MustParseAddr("fe80::1")) {
		t.Error("a zone changes the address")
	}
}
