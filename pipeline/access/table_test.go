package access_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	. "sluice/pipeline/access"
	"sluice/pipeline/packet"
)

func rule(text string) Rule {
	p := netip.MustParsePrefix(text[1:])
	return Rule{Prefix: p, Deny: text[0] == '-'}
}

// TestDenies checks each rule of the lists by hand. A rule is + or - and a prefix.
func TestDenies(t *testing.T) {
	for _, c := range []struct {
		rules           []string
		others          bool
		denied, allowed []string
	}{
		{nil, false, nil, []string{"192.0.2.1", "::", "2001:db8::1"}},
		{nil, true, []string{"0.0.0.0", "255.255.255.255", "::", "ffff::"}, nil},
		{[]string{"-10.0.0.0/8", "+10.1.0.0/16"}, false, []string{"10.0.0.0", "10.2.0.0", "10.255.255.255"}, []string{"10.1.0.0", "10.1.255.255", "11.0.0.0", "9.255.255.255", "::"}},
		{[]string{"+10.0.0.0/8", "-10.1.0.0/16"}, true, []string{"10.1.2.3", "11.0.0.0", "2001:db8::1"}, []string{"10.0.0.0"}},
		{[]string{"+192.0.2.1/32", "-192.0.2.1/32"}, false, []string{"192.0.2.1"}, []string{"192.0.2.0", "192.0.2.2"}},
		{[]string{"-0.0.0.0/0", "+255.255.255.255/32", "+0.0.0.0/32"}, false, []string{"0.0.0.1", "255.255.255.254"}, []string{"0.0.0.0", "255.255.255.255", "::1"}},
		{[]string{"-::/0", "+ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"}, false, []string{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"},
			[]string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.1"}},
		{[]string{"-2001:db8::/32", "+2001:db8:1::/64", "-2001:db8:1::7/128"}, false,
			[]string{"2001:db8::", "2001:db8:1::7", "2001:db8:1:1::", "2001:db8:ffff::"}, []string{"2001:db8:1::6", "2001:db8:1::8", "2001:db9::"}},
	} {
		var rules []Rule
		for _, text := range c.rules {
			rules = append(rules, rule(text))
		}
		table := New(rules, c.others)
		for i, all := range [][]string{c.denied, c.allowed} {
			for _, a := range all {
				if got := table.Denies(packet.AddrFrom(netip.MustParseAddr(a))); got != (i == 0) {
					t.Errorf("%v, others %v: %s denied: %v", c.rules, c.others, a, got)
				}
			}
		}
	}
}

// slow is Denies by Match.
func slow(rules []Rule, others bool, a netip.Addr) bool {
	if i := Match(rules, a); i >= 0 {
		return rules[i].Deny
	}
	return others
}

// compare checks the table at the ends of all prefixes, and beside them.
func compare(t *testing.T, rules []Rule, others bool, also ...netip.Addr) {
	t.Helper()
	table := New(rules, others)
	check := func(a netip.Addr) {
		if !a.IsValid() {
			return
		}
		if got, want := table.Denies(packet.AddrFrom(a)), slow(rules, others, a); got != want {
			t.Fatalf("%s: denied %v, want %v, with %v, others %v", a, got, want, rules, others)
		}
	}
	for _, r := range rules {
		first := r.Prefix.Addr()
		last := first.AsSlice()
		for bit := r.Prefix.Bits(); bit < first.BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		end, _ := netip.AddrFromSlice(last)
		for _, a := range []netip.Addr{first, first.Prev(), end, end.Next()} {
			check(a)
		}
	}
	for _, a := range also {
		check(a)
	}
}

// random returns rules that overlap often, and addresses.
func random(r *rand.Rand, n int) (rules []Rule, addrs []netip.Addr) {
	for range n {
		b := [16]byte{0x20, 1, 0xd, 0xb8}
		binary.BigEndian.PutUint64(b[4:], r.Uint64()&r.Uint64()&r.Uint64())
		binary.BigEndian.PutUint32(b[12:], uint32(r.Uint64()&r.Uint64()))
		a := netip.AddrFrom16(b)
		if r.IntN(2) == 0 {
			a = netip.AddrFrom4([4]byte(b[12:]))
		}
		p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
		rules, addrs = append(rules, Rule{p, r.IntN(2) == 0}), append(addrs, a)
	}
	return rules, addrs
}

func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 7, 8, 9, 63, 64, 65, 600} {
		for range 20 {
			rules, addrs := random(r, n)
			compare(t, rules, r.IntN(2) == 0, addrs...)
		}
	}
}

// FuzzTable compares a Table with Match. Each 18 bytes are a rule and an address.
func FuzzTable(f *testing.F) {
	f.Add([]byte("\x08\x0a\x00\x00\x00 and two more or so of them"), true)
	f.Fuzz(func(t *testing.T, data []byte, others bool) {
		var rules []Rule
		var addrs []netip.Addr
		for ; len(data) >= 18 && len(rules) < 200; data = data[18:] {
			a := netip.AddrFrom16([16]byte(data[2:])).Unmap()
			if data[0]&2 != 0 {
				a = netip.AddrFrom4([4]byte(data[2:]))
			}
			p, _ := a.Prefix(int(data[1]) % (a.BitLen() + 1))
			if p.Addr().Is4In6() {
				continue
			}
			rules, addrs = append(rules, Rule{p, data[0]&1 != 0}), append(addrs, a)
		}
		compare(t, rules, others, addrs...)
	})
}

// TestNoAllocation checks that a look-up allocates nothing.
func TestNoAllocation(t *testing.T) {
	rules, addrs := random(rand.New(rand.NewPCG(3, 4)), 1000)
	table := New(rules, false)
	if n := testing.AllocsPerRun(10, func() {
		for _, a := range addrs[:8] {
			table.Denies(packet.AddrFrom(a))
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// prefixes returns n random prefixes as they are in lists of addresses to block.
func prefixes(family, n int) (rules []Rule) {
	r := rand.New(rand.NewPCG(5, 6))
	for range n {
		b := [16]byte{0x20, 1}
		binary.BigEndian.PutUint64(b[2:], r.Uint64())
		a, bits := netip.AddrFrom16(b), 32+r.IntN(33)
		if family == 4 {
			a, bits = netip.AddrFrom4([4]byte(b[2:])), 12+r.IntN(21)
		}
		p, _ := a.Prefix(bits)
		rules = append(rules, Rule{p, r.IntN(4) > 0})
	}
	return rules
}

func BenchmarkDenies(b *testing.B) {
	for _, family := range []int{4, 6} {
		for _, n := range []int{10, 1000, 100_000} {
			table := New(prefixes(family, n), false)
			r := rand.New(rand.NewPCG(7, 8))
			addrs := make([]packet.Addr, 1<<12)
			for i := range addrs {
				if addrs[i] = packet.AddrFrom4(r.Uint32()); family == 6 {
					addrs[i] = packet.Addr{Hi: 0x2001<<48 | r.Uint64()>>16, Lo: r.Uint64()}
				}
			}
			b.Run(fmt.Sprintf("v%d/%d", family, n), func(b *testing.B) {
				denied := 0
				for i := range b.N {
					if table.Denies(addrs[i%len(addrs)]) {
						denied++
					}
				}
				b.ReportMetric(float64(denied)/float64(b.N), "denied")
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, family := range []int{4, 6} {
		rules := prefixes(family, 100_000)
		b.Run(fmt.Sprintf("v%d", family), func(b *testing.B) {
			for range b.N {
				New(rules, false)
			}
		})
	}
}
