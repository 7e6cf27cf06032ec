package flow

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"sluice/pipeline/packet"
)

// TestHashScatters puts clients with consecutive addresses and ports into buckets by the high and
// the low half of the hash, under random seeds and seeds with a pattern. A random function with n
// clients and n buckets leaves n/e buckets empty; the hash must be near that.
func TestHashScatters(t *testing.T) {
	const n = 1 << 16
	random := rand.New(rand.NewPCG(1, 2))
	seeds := []Seed{{0x0123456789abcdef, 0xfedcba9876543210}, {0, 1 << 63}, {3, 5}}
	for range 20 {
		seeds = append(seeds, Seed{random.Uint64(), random.Uint64()})
	}
	clients := map[string]func(i int) (packet.Addr, uint16){
		"v4 addresses": func(i int) (packet.Addr, uint16) { return packet.AddrFrom4(0x0a000000 + uint32(i)), 1024 },
		"v4 networks":  func(i int) (packet.Addr, uint16) { return packet.AddrFrom4(uint32(i) << 8), 1024 },
		"ports":        func(i int) (packet.Addr, uint16) { return packet.AddrFrom4(0x0a000001), uint16(i) },
		"v6 hosts":     func(i int) (packet.Addr, uint16) { return packet.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}, 1024 },
		"v6 networks":  func(i int) (packet.Addr, uint16) { return packet.Addr{Hi: 0x20010db8<<32 + uint64(i), Lo: 1}, 1024 },
	}
	for name, client := range clients {
		for _, seed := range seeds {
			var high, low [n]bool
			for i := range n {
				a, port := client(i)
				h := seed.Hash(a, port, 6)
				high[h>>48], low[h&(n-1)] = true, true
			}
			for half, hit := range map[string]*[n]bool{"high": &high, "low": &low} {
				empty := 0
				for _, h := range hit {
					if !h {
						empty++
					}
				}
				// The standard deviation is about sqrt(n)/3; a weak hash is off by thousands.
				if math.Abs(float64(empty)-n/math.E) > 8*math.Sqrt(n)/3 {
					t.Errorf("%s, seed %x, %s half: %d of %d bins are empty, chance leaves %.0f", name, seed, half, empty, n, n/math.E)
				}
			}
		}
	}
}

func TestOwnersShareEvenly(t *testing.T) {
	seed := Seed{7, 9}
	for workers := 1; workers <= 9; workers++ {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			const n = 90_000
			count := make([]int, workers)
			for i := range n {
				count[Owner(seed.Hash(packet.AddrFrom4(uint32(i)), 80, 6), workers)]++
			}
			for w, c := range count {
				if math.Abs(float64(c)-n/float64(workers)) > 8*math.Sqrt(n) {
					t.Errorf("worker %d owns %d of %d flows", w, c, n)
				}
			}
		})
	}
}
