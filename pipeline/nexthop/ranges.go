package nexthop

import (
	"math/bits"

	"sluice/pipeline/packet"
)

// ranges4 are the disjoint ranges of IPv4.
type ranges4 struct {
	starts  []uint32 // first address of each range, ascending; starts[0] is 0.0.0.0
	entries []uint32 // index into the table's entries, for each range
	index   prefixIndex
}

func makeRanges4(starts, entries []uint32) ranges4 {
	return ranges4{starts, entries, makePrefixIndex(len(starts), func(i int, upper uint32) bool { return starts[i] <= upper })}
}

// find returns the index of the range that contains a.
func (r *ranges4) find(a uint32) uint32 {
	at, last := r.index.of(a)
	if at == last {
		return at
	}
	for n := last - at + 1; n > 1; { // see prefixIndex
		half := n / 2
		if r.starts[at+half] <= a {
			at += half
		}
		n -= half
	}
	return at
}

// ranges6 are the disjoint ranges of IPv6.
type ranges6 struct {
	starts  []packet.Addr // first address of each range, ascending; starts[0] is ::
	entries []uint32
	index   prefixIndex
}

func makeRanges6(starts []packet.Addr, entries []uint32) ranges6 {
	return ranges6{starts, entries, makePrefixIndex(len(starts), func(i int, upper uint32) bool {
		return !less(packet.Addr{Hi: uint64(upper) << 32}, starts[i])
	})}
}

// find returns the index of the range that contains a.
func (r *ranges6) find(a packet.Addr) uint32 {
	at, last := r.index.of(uint32(a.Hi >> 32))
	if at == last {
		return at
	}
	for n := last - at + 1; n > 1; {
		half := n / 2
		if !less(a, r.starts[at+half]) {
			at += half
		}
		n -= half
	}
	return at
}

// prefixIndex is an index of ranges by the upper bits of addresses. With few ranges, most upper
// bits belong to one range, and nothing is searched. Otherwise the search takes the same number of
// steps for all addresses with these bits, and its one decision compiles to a conditional move.
type prefixIndex struct {
	// at: by upper bits: the range that contains the first address with them; one more at the end
	at    []uint32
	shift uint8 // the upper 32 bits of an address shifted right by it are an index into at
}

// minPrefixBits separates the surroundings of a few networks from the other addresses: in IPv6,
// those from addresses that the registries of other regions have assigned.
const minPrefixBits = 12

// makePrefixIndex indexes n ranges by 16 bits (256 KiB) for a full Internet table, else by fewer.
// begun reports whether range i begins at or before the first address with these upper 32 bits.
func makePrefixIndex(n int, begun func(i int, upper uint32) bool) prefixIndex {
	top := min(16, max(minPrefixBits, bits.Len(uint(n))-4))
	t := prefixIndex{make([]uint32, 1<<top+1), uint8(32 - top)}
	at := 0
	for i := range 1 << top {
		for at+1 < n && begun(at+1, uint32(i)<<t.shift) {
			at++
		}
		t.at[i] = uint32(at)
	}
	t.at[1<<top] = uint32(n - 1)
	return t
}

// of returns the first and the last range that may contain an address with these upper 32 bits.
func (t *prefixIndex) of(upper uint32) (first, last uint32) {
	top := upper >> (t.shift & 31)
	return t.at[top], t.at[top+1]
}

// less compares addresses as 128-bit numbers.
func less(a, b packet.Addr) bool {
	_, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	_, borrow = bits.Sub64(a.Hi, b.Hi, borrow)
	return borrow != 0
}

// span is a prefix as the interval of addresses that it covers. Two spans are disjoint, or one
// contains the other.
type span struct {
	first, last packet.Addr
	entry       uint32
}

// cut turns nested spans into disjoint ranges that cover lowest to highest: starts[i] is where
// range i begins and entries[i] is the entry of the innermost span there, noRoute if there is none.
// Spans are ordered by first, the wider before the narrower, no two equal.
//
// It is one sweep with the open spans on a stack. A range begins where a span opens, and after the
// last address of a span, where the span below it on the stack continues.
func cut(spans []span, lowest, highest packet.Addr) (starts []packet.Addr, entries []uint32) {
	c := cutter{starts: make([]packet.Addr, 0, 2*len(spans)+1), entries: make([]uint32, 0, 2*len(spans)+1)}
	c.open = append(c.open, span{lowest, highest, noRoute})
	c.begin(lowest, noRoute)
	for _, s := range spans {
		c.closeBefore(s.first)
		c.begin(s.first, s.entry)
		c.open = append(c.open, s)
	}
	c.closeBefore(highest)
	return c.starts, c.entries
}

type cutter struct {
	starts  []packet.Addr
	entries []uint32
	open    []span // the stack; its bottom is the whole family and never closes
}

// closeBefore closes the open spans that end before a.
func (c *cutter) closeBefore(a packet.Addr) {
	for top := len(c.open) - 1; less(c.open[top].last, a); top-- {
		c.begin(next(c.open[top].last), c.open[top-1].entry)
		c.open = c.open[:top]
	}
}

// begin starts a range. It replaces a range that began at the same address, which would be empty,
// and extends the range before it if that has the same entry.
func (c *cutter) begin(at packet.Addr, entry uint32) {
	n := len(c.starts)
	if n > 0 && c.starts[n-1] == at {
		n--
	}
	if n > 0 && c.entries[n-1] == entry {
		c.starts, c.entries = c.starts[:n], c.entries[:n]
		return
	}
	c.starts = append(c.starts[:n], at)
	c.entries = append(c.entries[:n], entry)
}

// next returns the address after a.
func next(a packet.Addr) packet.Addr {
	a.Lo++
	if a.Lo == 0 {
		a.Hi++
	}
	return a
}
