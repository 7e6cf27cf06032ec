package conn

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"sluice/pipeline/packet"
)

func BenchmarkFind(b *testing.B) {
	for _, family := range []int{4, 6} {
		for _, n := range []int{1000, 1_000_000} {
			b.Run(fmt.Sprintf("v%d/%d", family, n), func(b *testing.B) {
				tab := newTable(family, n, nil)
				homes := make([]Home, 64)
				for i := range n {
					c := client(family, i)
					tab.Insert(homeOf(tab, c, 1, 6), c, Key{1, 1, 80}, packet.Addr{}, 0, 0, 0).Expires = 1000
				}
				random := rand.New(rand.NewPCG(1, 2))
				order := make([]int, 1<<16)
				for i := range order {
					order[i] = int(random.Uint64() % uint64(n))
				}
				b.ResetTimer()
				at, fetched := 0, uint64(0)
				for i := 0; i < b.N; i += 64 {
					for j := range homes {
						homes[j] = homeOf(tab, client(family, order[(at+j)&0xffff]), 1, 6)
						fetched += Fetch(tab, tab, homes[j])
					}
					for j := range homes {
						if tab.Find(homes[j], client(family, order[(at+j)&0xffff]), Key{1, 1, 80}, 0) == nil {
							b.Fatal("not found")
						}
					}
					at += 64
				}
				runtime.KeepAlive(fetched)
			})
		}
	}
}
