// Package access tells which clients are refused. Lists of prefixes are compiled to a Table, which
// answers for one address with a few cache lines, whatever the number of prefixes.
//
// The prefix that decides is the longest one that contains the address. Over all addresses, in
// order, the decision therefore flips at some addresses and stays the same between them:
//
//	rules   deny 10.0.0.0/8, allow 10.1.0.0/16
//	flips   10.0.0.0  10.1.0.0  10.2.0.0  11.0.0.0
//	denied        yes       no        yes       no
//
// A Table has the flips only. Whether an address is denied follows from the number of flips up to
// it: odd or even.
package access

import (
	"cmp"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"sluice/pipeline/packet"
)

// Rule allows or denies the addresses of a prefix.
type Rule struct {
	Prefix netip.Prefix // without host bits, and not an IPv4 prefix mapped into IPv6
	Deny   bool
}

// Table is a compiled list of rules for both families. It is immutable, and any goroutine may use
// it. Its memory is about 8 bytes for each rule of IPv4, and 26 for each of IPv6, or 74 if it is
// longer than /64.
type Table struct {
	v4 table4
	v6 table6
}

// New compiles rules. Of equal prefixes with different rules the address is denied. Addresses that
// no prefix contains are denied if others is true.
func New(rules []Rule, others bool) *Table {
	v4, v6 := []span(nil), []span(nil)
	for i := range rules {
		if r := &rules[i]; r.Prefix.Addr().Is4() {
			v4 = append(v4, spanOf(r))
		} else {
			v6 = append(v6, spanOf(r))
		}
	}
	return &Table{newTable4(flips(v4, others), others), newTable6(flips(v6, others), others)}
}

// Denies reports whether the address is denied.
func (t *Table) Denies(a packet.Addr) bool {
	if a.Is4() {
		return t.v4.denies(a.V4())
	}
	return t.v6.denies(a)
}

// Match returns the index of the rule that decides about an address, -1 if no rule contains it. It
// is what a Table does, in a slow and obvious way, for those who want to know why.
func Match(rules []Rule, a netip.Addr) int {
	best := -1
	for i := range rules {
		r := &rules[i]
		if !r.Prefix.Contains(a) {
			continue
		}
		if best < 0 || r.Prefix.Bits() > rules[best].Prefix.Bits() ||
			r.Prefix.Bits() == rules[best].Prefix.Bits() && r.Deny && !rules[best].Deny {
			best = i
		}
	}
	return best
}

// span is a rule as the first and last address of its prefix.
type span struct {
	first, last packet.Addr
	deny        bool
}

func spanOf(r *Rule) span {
	first, host := packet.AddrFrom(r.Prefix.Addr()), r.Prefix.Addr().BitLen()-r.Prefix.Bits()
	last := first
	last.Lo |= 1<<min(host, 64) - 1
	last.Hi |= 1<<max(host-64, 0) - 1
	return span{first, last, r.Deny}
}

func compare(a, b packet.Addr) int { return cmp.Or(cmp.Compare(a.Hi, b.Hi), cmp.Compare(a.Lo, b.Lo)) }

// edge is the decision from an address on.
type edge struct {
	at   packet.Addr
	deny bool
}

// flips returns the addresses at which the decision changes, ascending. others is the decision
// outside of all spans.
func flips(spans []span, others bool) (at []packet.Addr) {
	// Prefixes contain each other or are disjoint. A wider one comes before those in it, and of
	// equal ones the one that denies comes last.
	slices.SortFunc(spans, func(a, b span) int {
		deny := 0
		if a.deny != b.deny {
			if deny = -1; a.deny {
				deny = 1
			}
		}
		return cmp.Or(compare(a.first, b.first), compare(b.last, a.last), deny)
	})
	edges, around := make([]edge, 0, 2*len(spans)), []span(nil)
	from := func(a packet.Addr, deny bool) {
		if n := len(edges); n > 0 && edges[n-1].at == a {
			edges[n-1].deny = deny
		} else {
			edges = append(edges, edge{a, deny})
		}
	}
	leave := func() {
		end := around[len(around)-1].last
		around = around[:len(around)-1]
		if end.Lo++; end.Lo == 0 {
			end.Hi++
		}
		if end == (packet.Addr{}) {
			return // after the last address
		}
		if n := len(around); n > 0 {
			from(end, around[n-1].deny)
		} else {
			from(end, others)
		}
	}
	for _, s := range spans {
		for len(around) > 0 && compare(around[len(around)-1].last, s.first) < 0 {
			leave()
		}
		around = append(around, s)
		from(s.first, s.deny)
	}
	for len(around) > 0 {
		leave()
	}
	now := others
	for _, e := range edges {
		if e.deny != now {
			now = e.deny
			at = append(at, e.at)
		}
	}
	return at
}

// parity returns 1 if others is true: a number that is added to the number of flips.
func parity(others bool) uint32 {
	if others {
		return 1
	}
	return 0
}

// table4 has the flips of IPv4. The first bits of an address tell which flips begin with them, and
// a binary search among these does the rest.
type table4 struct {
	flips  []uint32
	below  []uint32 // by the first bits: number of flips below them; one more than there are values
	shift  uint8    // how many bits are not among the first
	others uint32
}

// maxRootBits limits below to 256 KiB, which fits the cache of a CPU.
const maxRootBits = 16

func newTable4(at []packet.Addr, others bool) table4 {
	t := table4{flips: make([]uint32, len(at)), shift: 32, others: parity(others)}
	for i, a := range at {
		if !a.Is4() { // 255.255.255.255 ends the last prefix
			t.flips = t.flips[:i]
			break
		}
		t.flips[i] = a.V4()
	}
	for 32-t.shift < maxRootBits && 1<<(32-t.shift) < len(t.flips) {
		t.shift--
	}
	t.below = make([]uint32, 1<<(32-t.shift)+1)
	n := uint32(0)
	for first := range t.below {
		for int(n) < len(t.flips) && int(uint64(t.flips[n])>>t.shift) < first {
			n++
		}
		t.below[first] = n
	}
	return t
}

func (t *table4) denies(a uint32) bool {
	first := uint64(a) >> t.shift
	from := t.below[first]
	n := t.below[first+1] - from
	for n > 0 {
		half := (n + 1) / 2
		next := from
		if t.flips[from+half-1] <= a {
			next = from + half
		}
		from = next
		n -= half
	}
	return (from+t.others)&1 != 0
}

// block is the keys of one node of table6: one cache line.
type block [8]uint64

// table6 has the flips of IPv6. The upper words of the addresses are the keys of a search tree.
// Where flips have lower words, the list of those with equal upper words is searched.
//
// levels[0] is the root, of one block. The keys of a level are the first keys of the blocks of the
// next. The last level has all upper words, each once.
type table6 struct {
	levels [][]block
	keys   uint32   // in the last level
	below  []uint32 // by key: number of flips with lower keys; nil if no flip has a lower word
	lower  []uint64 // words of the flips
	others uint32
}

func newTable6(at []packet.Addr, others bool) table6 {
	t := table6{others: parity(others)}
	var keys []uint64
	plain := true
	for i, a := range at {
		if len(keys) == 0 || keys[len(keys)-1] != a.Hi {
			keys = append(keys, a.Hi)
			t.below = append(t.below, uint32(i))
		}
		t.lower = append(t.lower, a.Lo)
		plain = plain && a.Lo == 0
	}
	t.keys = uint32(len(keys))
	t.below = append(t.below, uint32(len(at)))
	if plain {
		t.below, t.lower = nil, nil
	}
	for len(keys) > 0 {
		level := make([]block, (len(keys)+7)/8)
		var first []uint64
		for i := range 8 * len(level) {
			b := &level[i/8]
			if b[i%8] = math.MaxUint64; i < len(keys) {
				b[i%8] = keys[i]
			}
			if i%8 == 0 {
				first = append(first, keys[i])
			}
		}
		t.levels = append(t.levels, level)
		if keys = first; len(level) == 1 {
			break
		}
	}
	slices.Reverse(t.levels)
	return t
}

func (t *table6) denies(a packet.Addr) bool {
	n := uint32(0) // number of keys up to the upper word
	for _, level := range t.levels {
		at := uint32(0)
		if n > 0 {
			at = min(n-1, uint32(len(level))-1)
		}
		upTo := level[at].upTo(a.Hi)
		if upTo == 0 {
			break // only in the root: the first key of another block is in the level above
		}
		n = 8*at + upTo
	}
	n = min(n, t.keys)
	if n == 0 || t.below == nil {
		return (n+t.others)&1 != 0
	}
	from := t.below[n]
	if last := t.levels[len(t.levels)-1]; last[(n-1)/8][(n-1)%8] == a.Hi {
		from = t.below[n-1]
		for from < t.below[n] && t.lower[from] <= a.Lo {
			from++
		}
	}
	return (from+t.others)&1 != 0
}

// upTo returns the number of keys that are not above the word. It has no branch, which would be
// mispredicted in every other block.
func (b *block) upTo(word uint64) uint32 {
	_, b0 := bits.Sub64(word, b[0], 0)
	_, b1 := bits.Sub64(word, b[1], 0)
	_, b2 := bits.Sub64(word, b[2], 0)
	_, b3 := bits.Sub64(word, b[3], 0)
	_, b4 := bits.Sub64(word, b[4], 0)
	_, b5 := bits.Sub64(word, b[5], 0)
	_, b6 := bits.Sub64(word, b[6], 0)
	_, b7 := bits.Sub64(word, b[7], 0)
	return 8 - uint32(b0+b1+b2+b3+b4+b5+b6+b7)
}
