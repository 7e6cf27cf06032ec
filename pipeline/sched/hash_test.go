package sched_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"sluice/pipeline/sched"
)

// bucketOf says in which of 256 buckets IPVS puts an address, by hash_32 of its 32-bit words folded
// together.
func bucketOf(address string) int {
	a := netip.MustParseAddr(address)
	var v uint32
	for raw := a.AsSlice(); len(raw) > 0; raw = raw[4:] {
		v ^= binary.BigEndian.Uint32(raw)
	}
	return int(v * 0x61C88647 >> 24)
}

// keyOf is the key of a client and a VIP.
func keyOf(client, vip string) *sched.Key {
	words := func(s string) [2]uint64 {
		b := netip.MustParseAddr(s).As16()
		return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
	}
	return &sched.Key{Client: words(client), VIP: words(vip), IPv4: netip.MustParseAddr(client).Is4()}
}

// dealt is IPVS's assignment of the 256 buckets: weight slots each, at least one, round and round.
func dealt(weights ...int) [256]int {
	var round []int
	for i, w := range weights {
		for range max(w, 1) {
			round = append(round, i)
		}
	}
	var table [256]int
	for i := range table {
		table[i] = round[i%len(round)]
	}
	return table
}

var addresses = []string{
	"0.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.77", "198.51.100.10", "255.255.255.255",
	"::", "2001:db8::1", "2001:db8::2", "fe80::1234:5678:9abc:def0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}

func TestSHBuckets(t *testing.T) {
	s := mustNew(t, "sh", candidates(3, 1, 5))
	table := dealt(3, 1, 5)
	for _, a := range addresses {
		if got, want := s.Pick(nil, nil, keyOf(a, a)), table[bucketOf(a)]; got != want {
			t.Errorf("client %s: %d, want %d", a, got, want)
		}
	}
	// By hand: 0x0a000001 * 0x61C88647 = 0x27C88647 modulo 2^32, and its top byte is the bucket.
	if got := bucketOf("10.0.0.1"); got != 0x27 {
		t.Errorf("bucket of 10.0.0.1: %#x, want 0x27", got)
	}
}

// TestSHAndDHUseOneAddress: ports and destination don't matter to sh, nor does the client to dh.
func TestSHAndDHUseOneAddress(t *testing.T) {
	list := equal(7)
	s, d := mustNew(t, "sh", list), mustNew(t, "dh", list)
	for _, a := range addresses[:7] {
		for _, b := range addresses[:7] {
			k := keyOf(a, b)
			k.ClientPort, k.VIPPort = 4711, 80
			if got, want := s.Pick(nil, nil, k), bucketOf(a)%7; got != want {
				t.Errorf("sh, %s to %s: %d, want %d", a, b, got, want)
			}
			if got, want := d.Pick(nil, nil, k), bucketOf(b)%7; got != want {
				t.Errorf("dh, %s to %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

// TestSHAndDHFallBack: an unusable backend keeps its buckets, at least one. Its clients are divided
// among the others in proportion to their buckets, each client always to the same one. No other
// client moves.
func TestSHAndDHFallBack(t *testing.T) {
	for name, table := range map[string][256]int{"sh": dealt(2, 0, 4, 1, 6), "dh": dealt(1, 1, 1, 1, 1)} {
		for _, down := range []int{0, 2, 4} {
			list := candidates(2, 0, 4, 1, 6)
			list[down].Up = false
			s := mustNew(t, name, list)
			buckets, all := map[int]float64{}, 0.0
			for _, i := range table {
				if i != down && i != 1 {
					buckets[i]++
					all++
				}
			}
			got, fell := map[int]float64{}, 0.0
			for n := range uint32(20_000) {
				k := v4(n * 2654435761)
				k.VIP = k.Client
				i := s.Pick(nil, nil, k)
				if again := s.Pick(nil, nil, k); again != i {
					t.Fatalf("%s, address %d: %d, then %d", name, n, i, again)
				}
				switch own := table[n*2654435761*0x61C88647>>24]; {
				case own == down, own == 1:
					got[i]++
					fell++
				case own != i:
					t.Fatalf("%s, address %d: %d, want its own, %d", name, n, i, own)
				}
			}
			for i, n := range buckets {
				if !near(int(got[i]), fell*n/all, 0.25) {
					t.Errorf("%s without %d: %v of %.0f clients fell to %d, which has %.0f of %.0f buckets", name, down, got[i], fell, i, n, all)
				}
			}
			if len(got) != len(buckets) {
				t.Errorf("%s without %d: clients fell to %v", name, down, got)
			}
		}
	}
}

// TestSHHugeWeight: with more weight than buckets, the first backend in the list has them all, as
// in IPVS.
func TestSHHugeWeight(t *testing.T) {
	s := mustNew(t, "sh", candidates(sched.MaxWeight, 1))
	for n := range uint32(1000) {
		if got := s.Pick(nil, nil, v4(n)); got != 0 {
			t.Fatalf("client %d: %d", n, got)
		}
	}
}

// TestSHSpreadsClients: clients with consecutive addresses are spread over all backends by weight.
func TestSHSpreadsClients(t *testing.T) {
	const n = 1 << 16
	got := shares(mustNew(t, "sh", candidates(1, 2, 5)), nil, nil, 3, n)
	for i, w := range []float64{1, 2, 5} {
		if !near(got[i], n*w/8, 0.1) {
			t.Errorf("weight %.0f: %d clients of %d", w, got[i], n)
		}
	}
}
