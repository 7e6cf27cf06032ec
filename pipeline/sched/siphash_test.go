package sched

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sluice/pipeline/packet"
)

func keyOf(client netip.AddrPort) *Key {
	a := packet.AddrFrom(client.Addr())
	return &Key{Client: [2]uint64{a.Hi, a.Lo}, ClientPort: client.Port(), IPv4: a.Is4()}
}

// TestClientHashIsSipHash13 compares hashes with those of OpenSSL 3 (`openssl mac SIPHASH` with
// -macopt c-rounds:1, d-rounds:3 and size:8), under the key of the paper's test vectors. They must
// never change: hosts of different versions choose alike.
func TestClientHashIsSipHash13(t *testing.T) {
	k := newClientKey(0x0706050403020100, 0x0f0e0d0c0b0a0908)
	for _, c := range []struct {
		client string
		ports  bool
		want   uint64 // the bytes in the order that OpenSSL prints them
	}{
		{"192.0.2.7:8080", false, 0x4ee3a060618becc8},
		{"192.0.2.7:8080", true, 0xc16ef35b78ffdb3a},
		{"[2001:db8::7]:8080", false, 0x2ef9ec6a44ca65b2},
		{"[2001:db8::7]:8080", true, 0xe2e2d22f5923adbe},
	} {
		if got := bits.ReverseBytes64(k.hash(keyOf(netip.MustParseAddrPort(c.client)), c.ports)); got != c.want {
			t.Errorf("%s, ports %v: %#x, want %#x", c.client, c.ports, got, c.want)
		}
	}
}

// TestClientHashDiffuses: each bit of the address and the port changes each bit of the hash in half
// of all cases.
func TestClientHashDiffuses(t *testing.T) {
	const tries = 2000
	random := rand.New(rand.NewPCG(1, 2))
	for _, v4 := range []bool{true, false} {
		bitsOf := 128 + 16
		if v4 {
			bitsOf = 32 + 16
		}
		for bit := range bitsOf {
			var changed [64]int
			for range tries {
				k := newClientKey(random.Uint64(), random.Uint64())
				c := Key{Client: [2]uint64{random.Uint64(), random.Uint64()}, ClientPort: uint16(random.Uint32()), IPv4: v4}
				before := k.hash(&c, true)
				switch {
				case bit < 16:
					c.ClientPort ^= 1 << bit
				case bit < 80:
					c.Client[1] ^= 1 << (bit - 16)
				default:
					c.Client[0] ^= 1 << (bit - 80)
				}
				for i, after := 0, k.hash(&c, true); i < 64; i++ {
					changed[i] += int((before ^ after) >> i & 1)
				}
			}
			for i, n := range changed { // 8 standard deviations
				if n < tries/2-180 || n > tries/2+180 {
					t.Errorf("IPv4 %v: input bit %d changes bit %d of the hash in %d of %d cases", v4, bit, i, n, tries)
				}
			}
		}
	}
}
