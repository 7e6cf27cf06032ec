package worker

import "math/bits"

// Histogram counts values in buckets that are an eighth of their size wide.
type Histogram struct {
	counts [64 * 8]uint64
	max    uint64
	sum    uint64
}

const (
	subBuckets = 8
	subBits    = 3
)

func (h *Histogram) add(v uint64) {
	h.counts[bucketOf(v)]++
	h.max = max(h.max, v)
	h.sum += v
}

// bucketOf numbers the buckets: values Below 8 have one each, then eight per power of two.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	e := bits.Len64(v) - 1 - subBits
	return (e+1)*subBuckets + int(v>>e)&(subBuckets-1)
}

// highest is the largest value that falls into the bucket.
func highest(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	e := bucket/subBuckets - 1
	return (uint64(bucket%subBuckets+subBuckets)+1)<<e - 1
}

// Quantile gives a value that so large a share of all values does not exceed, at most an eighth too
// high.
func (h *Histogram) Quantile(share float64) uint64 {
	var total uint64
	for _, n := range h.counts {
		total += n
	}
	left := uint64(share * float64(total))
	for b, n := range h.counts {
		if n > left {
			return min(highest(b), h.max)
		}
		left -= n
	}
	return h.max
}

// Below counts the values that are less than each bound and not less than the one before it, and
// last those beyond all. A bound must be a power of two, where a bucket begins.
func (h *Histogram) Below(bounds []uint64) []uint64 {
	counts := make([]uint64, len(bounds)+1)
	b := 0
	for i, bound := range bounds {
		for end := bucketOf(bound); b < end; b++ {
			counts[i] += h.counts[b]
		}
	}
	for ; b < len(h.counts); b++ {
		counts[len(bounds)] += h.counts[b]
	}
	return counts
}

// Max returns the largest value.
func (h *Histogram) Max() uint64 { return h.max }

// Sum returns the sum of all values.
func (h *Histogram) Sum() uint64 { return h.sum }
