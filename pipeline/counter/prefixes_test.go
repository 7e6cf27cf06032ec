package counter_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// TestPrefixes checks that prefixes with a twentieth of all events or more are found among
// thousands of others. Of few events no count may be too low, nor too high by more than Over; of
// many they are estimates.
func TestPrefixes(t *testing.T) {
	for _, events := range []int{1000, 100_000} {
		testPrefixes(t, events)
	}
}

func testPrefixes(t *testing.T, events int) {
	t.Helper()
	heavy := []string{"203.0.113.0/24", "198.51.100.0/24", "2001:db8:1::/48"}
	from := []string{"203.0.113.7", "198.51.100.9", "2001:db8:1:2::3"}
	random := rand.New(rand.NewPCG(1, 2))
	var p counter.Prefixes
	exact := make(map[uint64]uint32)
	add := func(service uint32, a packet.Addr) {
		p.Add(service, a.Prefix())
		if service == 1 {
			exact[a.Prefix()]++
		}
	}
	for n := range events {
		switch {
		case n%20 < 3:
			add(1, packet.AddrFrom(netip.MustParseAddr(from[n%20])))
		case n%20 == 3:
			add(2, packet.AddrFrom(netip.MustParseAddr(from[0])))
		default:
			add(1, packet.AddrFrom4(random.Uint32()))
		}
	}
	var found []string
	for _, c := range p.All() {
		if c.Service != 1 {
			continue
		}
		if n := exact[c.Prefix]; events == 1000 && (c.Count < n || c.Count-c.Over > n) {
			t.Errorf("%v: %d, at most %d too high, of %d", c.Netip(), c.Count, c.Over, n)
		}
		if int(c.Count-c.Over) > events/40 {
			found = append(found, c.Netip().String())
		}
	}
	slices.Sort(heavy)
	slices.Sort(found)
	if !slices.Equal(found, heavy) {
		t.Errorf("found %v, want %v", found, heavy)
	}
}
