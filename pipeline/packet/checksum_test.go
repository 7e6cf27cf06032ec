package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"sluice/pipeline/packet"
)

// slowSum adds 16-bit words one by one, with the carry brought round each time: RFC 1071 as it is
// told.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word += uint32(b[i+1])
		}
		if s += word; s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

func TestSumOfBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 200)
	for n := range b {
		for range 200 {
			for i := range b {
				// many 0xff, for the carries
				b[i] = byte(random.Uint32()) | byte(-(random.Uint32() & 1))
			}
			if got, want := packet.Sum(0).Bytes(b[:n]).Fold(), slowSum(b[:n]); got != want {
				t.Fatalf("sum of % x is %#04x, want %#04x", b[:n], got, want)
			}
		}
	}
}

func TestFold(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	check := func(x uint64) {
		b := binary.BigEndian.AppendUint64(nil, x)
		if got, want := packet.Sum(x).Fold(), slowSum(b); got != want {
			t.Fatalf("%#x folds to %#04x, want %#04x", x, got, want)
		}
	}
	for _, x := range []uint64{0, 1, 0xffff, 0x10000, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1, 0xffff0000ffff0000} {
		check(x)
	}
	for range 1_000_000 {
		check(random.Uint64() | -(random.Uint64()&1)<<(random.Uint64()&63))
	}
}

// rewriteCase is a change of the fields that rewriting changes: an address pair, a 32-bit word and
// ports.
type rewriteCase struct {
	old16, new16 uint16
	old32, new32 uint32
	oldA, newA   packet.Addr
}

// rewrites gives edge cases and random changes, 256 of them.
func rewrites() []rewriteCase {
	random := rand.New(rand.NewPCG(5, 6))
	edges := []uint64{0, 1, 0xffff, 0x10000, 0xffff0000, 1<<32 - 1, 1<<64 - 1, 0x8000, 0xfffe}
	pick := func() uint64 {
		if random.IntN(2) == 0 {
			return edges[random.IntN(len(edges))]
		}
		return random.Uint64()
	}
	cases := []rewriteCase{{}}
	for len(cases) < 256 {
		cases = append(cases, rewriteCase{uint16(pick()), uint16(pick()), uint32(pick()), uint32(pick()),
			packet.Addr{Hi: pick(), Lo: pick()}, packet.Addr{Hi: pick(), Lo: pick()}})
	}
	return cases
}

func (r rewriteCase) diff() packet.Diff {
	return packet.Diff16(r.old16, r.new16) + packet.Diff32(r.old32, r.new32) + packet.DiffAddr(r.oldA, r.newA)
}

// bytes are the fields as they would stand in a packet.
func (r rewriteCase) bytes() (before, after []byte) {
	put := func(v16 uint16, v32 uint32, a packet.Addr) []byte {
		b := binary.BigEndian.AppendUint16(nil, v16)
		b = binary.BigEndian.AppendUint32(b, v32)
		b = binary.BigEndian.AppendUint64(b, a.Hi)
		return binary.BigEndian.AppendUint64(b, a.Lo)
	}
	return put(r.old16, r.old32, r.oldA), put(r.new16, r.new32, r.newA)
}

// TestUpdateEveryChecksum takes all 65,536 values of a checksum through 256 rewrites. What counts
// is that the sum of data and checksum, which a receiver looks at, stays the number that it was:
// all ones if it was right, and as wrong as before if it was wrong.
func TestUpdateEveryChecksum(t *testing.T) {
	for _, r := range rewrites() {
		d := r.diff()
		before, after := r.bytes()
		sumBefore, sumAfter := uint32(slowSum(before)), uint32(slowSum(after))
		for check := range uint32(0x10000) {
			got := uint32(d.Update(uint16(check)))
			if (sumBefore+check)%0xffff != (sumAfter+got)%0xffff {
				t.Fatalf("%+v: %#04x became %#04x: error was %#04x and is %#04x", r, check, got,
					(sumBefore+check)%0xffff, (sumAfter+got)%0xffff)
			}
			udp := uint32(d.UpdateUDP(uint16(check)))
			switch {
			case check == 0 && udp != 0:
				t.Fatalf("%+v: UDP without checksum got %#04x", r, udp)
			case check != 0 && got == 0 && udp != 0xffff, check != 0 && got != 0 && udp != got:
				t.Fatalf("%+v: UDP checksum %#04x became %#04x, TCP %#04x", r, check, udp, got)
			}
		}
	}
}

// TestUpdateIsRecompute compares the update by difference with the checksum computed from scratch,
// for right checksums.
func TestUpdateIsRecompute(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, r := range rewrites() {
		d := r.diff()
		before, after := r.bytes()
		for range 256 {
			// never all zero
			rest := binary.BigEndian.AppendUint64([]byte{0x45, 0}, random.Uint64())
			old := packet.Sum(0).Bytes(before).Bytes(rest).Checksum()
			want := packet.Sum(0).Bytes(after).Bytes(rest).Checksum()
			if got := d.Update(old); got != want {
				t.Fatalf("%+v: %#04x became %#04x, recomputed %#04x", r, old, got, want)
			}
		}
	}
}

func TestPseudo(t *testing.T) {
	a, b := packet.Addr{Hi: 0x20010db800000000, Lo: 7}, packet.Addr{Hi: 0x20010db8ffffffff, Lo: 1<<64 - 1}
	six := binary.BigEndian.AppendUint64(nil, a.Hi)
	six = binary.BigEndian.AppendUint64(six, a.Lo)
	six = binary.BigEndian.AppendUint64(six, b.Hi)
	six = binary.BigEndian.AppendUint64(six, b.Lo)
	six = append(six, 0, 0, 0x05, 0x14, 0, 0, 0, 6)
	if got, want := packet.Sum(0).Pseudo(a, b, 6, 0x514).Fold(), slowSum(six); got != want {
		t.Errorf("IPv6 pseudo-header sums to %#04x, want %#04x", got, want)
	}
	four := []byte{192, 0, 2, 7, 198, 51, 100, 10, 0, 17, 0x05, 0x14}
	got := packet.Sum(0).Pseudo(packet.AddrFrom4(0xc0000207), packet.AddrFrom4(0xc633640a), 17, 0x514).Fold()
	if want := slowSum(four); got != want {
		t.Errorf("IPv4 pseudo-header sums to %#04x, want %#04x", got, want)
	}
}
