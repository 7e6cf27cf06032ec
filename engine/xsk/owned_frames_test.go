package xsk

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzOwnedFrames applies the same additions and removals to the bit set and to a map.
func FuzzOwnedFrames(f *testing.F) {
	f.Add(uint8(70), []byte{0x01, 0x81, 0x81, 0x45, 0x46, 0x7f, 0xff})
	f.Fuzz(func(t *testing.T, frames uint8, commands []byte) {
		h, slow := newOwnedFrames(int(frames)), map[uint64]bool{}
		for i, command := range commands {
			chunk := uint64(command&0x7f) * FrameSize
			addr := chunk + uint64(command)*16
			if command < 0x80 {
				want := chunk/FrameSize < uint64(frames) && !slow[chunk]
				if got := h.add(addr); got != want {
					t.Fatalf("command %d: add(%#x) is %v, want %v", i, addr, got, want)
				}
				if want {
					slow[chunk] = true
				}
			} else {
				if got := h.remove(addr); got != slow[chunk] {
					t.Fatalf("command %d: remove(%#x) is %v, want %v", i, addr, got, slow[chunk])
				}
				delete(slow, chunk)
			}
		}
		var want []uint64
		for chunk := range slow {
			want = append(want, chunk)
		}
		slices.Sort(want)
		if got := h.addrs(); !slices.Equal(got, want) {
			t.Fatalf("addrs %v, want %v", got, want)
		}
	})
}

// BenchmarkOwnedFrames adds and removes frames in random order, as in a busy UMEM of 64 Ki frames.
// One op is one addition and one removal.
func BenchmarkOwnedFrames(b *testing.B) {
	const frames = 1 << 16
	h, order := newOwnedFrames(frames), rand.New(rand.NewPCG(1, 2)).Perm(frames)
	addrs := make([]uint64, frames)
	for i, n := range order {
		addrs[i] = uint64(n)*FrameSize + Headroom
	}
	b.ResetTimer()
	for i := range b.N {
		h.add(addrs[i%frames])
		h.remove(addrs[(i-64)&(frames-1)])
	}
}
