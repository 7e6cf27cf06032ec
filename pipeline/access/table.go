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
// longer than /64; and up to 256 KiB for each family.
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

// Touch loads what Denies will look at, so that the cache misses of several addresses overlap. The
// result has no meaning; it keeps the compiler from leaving the loads out.
func (t *Table) Touch(a packet.Addr) uint32 {
	if a.Is4() {
		at := t.v4.below[uint64(a.V4())>>t.v4.shift]
		if int(at) < len(t.v4.flips) {
			at += t.v4.flips[at]
		}
		return at
	}
	if t.v6.keys == 0 {
		return 0
	}
	at := t.v6.root[t.v6.rootOf(a.Hi)]
	if all := t.v6.levels[len(t.v6.levels)-1]; int(at) < len(all) {
		at += uint32(all[at])
	}
	return at
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
	from, to := t.below[first], t.below[first+1]
	for to-from > few {
		if middle := (from + to) / 2; t.flips[middle] <= a {
			from = middle + 1
		} else {
			to = middle
		}
	}
	n := from
	for _, flip := range t.flips[from:to] {
		n += 1 - uint32((uint64(a)-uint64(flip))>>63)
	}
	return (n+t.others)&1 != 0
}

// few is how many keys are compared one after the other: a branch for each would be mispredicted
// more often than not.
const few = 8

// table6 has the flips of IPv6. The upper words of the addresses are keys. Where flips have lower
// words, the list of those with equal upper words is searched.
//
// The bits behind those that all keys share tell where among the keys to look, as in table4. But
// keys come in clusters, since the networks of one provider begin with the same bits. So if there
// are many, a tree is searched: each level has the first of every eight keys of the next.
type table6 struct {
	levels [][]uint64 // the last has all keys, each once; filled up to whole lines of the cache
	keys   uint32     // number of keys
	root   []uint32   // by the first bits that differ: number of keys below
	shared uint8      // how many bits all keys share
	shift  uint8      // behind which the bits of root are
	below  []uint32   // by key: number of flips with lower keys; nil if no flip has a lower word
	lower  []uint64   // words of the flips
	others uint32
}

// fan is the number of keys in a line of the cache.
const fan = 8

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
	if len(keys) == 0 {
		return t
	}
	t.makeRoot(keys)
	for {
		level := keys
		for len(level)%fan != 0 {
			level = append(level, math.MaxUint64)
		}
		t.levels = append(t.levels, level)
		if len(level) == fan {
			break
		}
		keys = nil
		for i := 0; i < len(level); i += fan {
			keys = append(keys, level[i])
		}
	}
	slices.Reverse(t.levels)
	return t
}

func (t *table6) makeRoot(keys []uint64) {
	t.shared = uint8(bits.LeadingZeros64(keys[0] ^ keys[len(keys)-1]))
	size := 0
	for size < maxRootBits && 1<<size < len(keys) {
		size++
	}
	t.shift = uint8(64 - size)
	t.root = make([]uint32, 1<<size+1)
	n := uint32(0)
	for first := range t.root {
		for int(n) < len(keys) && t.rootOf(keys[n]) < uint64(first) {
			n++
		}
		t.root[first] = n
	}
}

// rootOf returns the first bits of a key that differ from other keys'.
func (t *table6) rootOf(key uint64) uint64 { return key << t.shared >> t.shift }

// upTo returns the number of keys that are not above the word.
func (t *table6) upTo(word uint64) uint32 {
	if t.keys == 0 {
		return 0
	}
	all := t.levels[len(t.levels)-1]
	if word < all[0] {
		return 0
	}
	if word >= all[t.keys-1] {
		return t.keys
	}
	first := t.rootOf(word)
	from, to := t.root[first], t.root[first+1]
	if to-from > few {
		return t.search(word)
	}
	for _, key := range all[from:to] {
		_, above := bits.Sub64(word, key, 0)
		from += 1 - uint32(above)
	}
	return from
}

// search is upTo by the tree, for a word between the first key and the last.
func (t *table6) search(word uint64) (n uint32) {
	for _, level := range t.levels {
		at := uint32(0)
		if n > 0 {
			at = fan * (n - 1)
		}
		n = at + upToOf((*[fan]uint64)(level[at:]), word)
	}
	return n
}

// upToOf is upTo for one line. It has no branch, which would be mispredicted in every other line.
func upToOf(line *[fan]uint64, word uint64) uint32 {
	_, b0 := bits.Sub64(word, line[0], 0)
	_, b1 := bits.Sub64(word, line[1], 0)
	_, b2 := bits.Sub64(word, line[2], 0)
	_, b3 := bits.Sub64(word, line[3], 0)
	_, b4 := bits.Sub64(word, line[4], 0)
	_, b5 := bits.Sub64(word, line[5], 0)
	_, b6 := bits.Sub64(word, line[6], 0)
	_, b7 := bits.Sub64(word, line[7], 0)
	return fan - uint32(b0+b1+b2+b3+b4+b5+b6+b7)
}

func (t *table6) denies(a packet.Addr) bool {
	n := t.upTo(a.Hi)
	if n == 0 || t.below == nil {
		return (n+t.others)&1 != 0
	}
	from := t.below[n]
	if t.levels[len(t.levels)-1][n-1] == a.Hi {
		from = t.below[n-1]
		for from < t.below[n] && t.lower[from] <= a.Lo {
			from++
		}
	}
	return (from+t.others)&1 != 0
}
