package nexthop

import (
	"math/bits"

	"sluice/pipeline/packet"
)

// ranges4 are the disjoint ranges of IPv4.
type ranges4 struct {
	starts []uint32 // first address of each range, ascending; starts[0] is 0.0.0.0
	ways   []uint32 // index into the table's ways, for each range
	tops   []uint32 // index of the range that holds the first address with these upper bits; one more at the end
	shift  uint8    // an address shifted right by it is an index into tops
}

// makeRanges4 adds the index by upper bits: none for a few ranges, 16 bits (256 KiB) for a full Internet table.
func makeRanges4(starts, ways []uint32) ranges4 {
	top := min(16, max(0, bits.Len(uint(len(starts)))-4))
	r := ranges4{starts, ways, make([]uint32, 1<<top+1), uint8(32 - top)}
	for i := range 1 << top {
		r.tops[i] = uint32(search(starts, uint32(i)<<r.shift))
	}
	r.tops[1<<top] = uint32(len(starts) - 1)
	return r
}

// find gives the index of the range that holds a.
func (r *ranges4) find(a uint32) int {
	top := a >> r.shift
	from := r.tops[top]
	return int(from) + search(r.starts[from:r.tops[top+1]+1], a)
}

// search gives the index of the last start that is not above a; starts[0] is not. The loop runs the same number
// of times for every address, and its one decision compiles to a conditional move.
func search(starts []uint32, a uint32) int {
	at, n := 0, len(starts)
	for n > 1 {
		half := n / 2
		if starts[at+half] <= a {
			at += half
		}
		n -= half
	}
	return at
}

// ranges6 are the disjoint ranges of IPv6.
type ranges6 struct {
	starts []packet.Addr // first address of each range, ascending; starts[0] is ::
	ways   []uint32
}

// find gives the index of the range that holds a.
func (r *ranges6) find(a packet.Addr) int {
	at, n := 0, len(r.starts)
	for n > 1 {
		half := n / 2
		if !less(a, r.starts[at+half]) {
			at += half
		}
		n -= half
	}
	return at
}

// less compares as 128-bit numbers.
func less(a, b packet.Addr) bool {
	_, borrow := bits.Sub64(a.Lo, b.Lo, 0)
	_, borrow = bits.Sub64(a.Hi, b.Hi, borrow)
	return borrow != 0
}

// span is a prefix as the interval of addresses that it covers. Two spans are disjoint, or one holds the other.
type span struct {
	first, last packet.Addr
	way         uint32
}

// cut turns nested spans into disjoint ranges that cover lowest to highest: starts[i] is where range i begins
// and ways[i] is the way of the innermost span there, noRoute where there is none. Spans come ordered by first,
// the wider before the narrower, no two equal.
//
// It is one sweep with the spans that are open at the moment on a stack. A range begins where a span opens, and
// behind the last address of a span, where the span below it on the stack goes on.
func cut(spans []span, lowest, highest packet.Addr) (starts []packet.Addr, ways []uint32) {
	c := cutter{starts: make([]packet.Addr, 0, 2*len(spans)+1), ways: make([]uint32, 0, 2*len(spans)+1)}
	c.open = append(c.open, span{lowest, highest, noRoute})
	c.begin(lowest, noRoute)
	for _, s := range spans {
		c.closeBefore(s.first)
		c.begin(s.first, s.way)
		c.open = append(c.open, s)
	}
	c.closeBefore(highest)
	return c.starts, c.ways
}

type cutter struct {
	starts []packet.Addr
	ways   []uint32
	open   []span // the stack; its bottom is the whole family and never closes
}

// closeBefore ends the open spans that don't reach a.
func (c *cutter) closeBefore(a packet.Addr) {
	for top := len(c.open) - 1; less(c.open[top].last, a); top-- {
		c.begin(next(c.open[top].last), c.open[top-1].way)
		c.open = c.open[:top]
	}
}

// begin starts a range. It replaces a range that began at the same address, which would be empty, and joins
// the range before it if that has the same way.
func (c *cutter) begin(at packet.Addr, way uint32) {
	n := len(c.starts)
	if n > 0 && c.starts[n-1] == at {
		n--
	}
	if n > 0 && c.ways[n-1] == way {
		c.starts, c.ways = c.starts[:n], c.ways[:n]
		return
	}
	c.starts = append(c.starts[:n], at)
	c.ways = append(c.ways[:n], way)
}

// next is the address after a.
func next(a packet.Addr) packet.Addr {
	a.Lo++
	if a.Lo == 0 {
		a.Hi++
	}
	return a
}
