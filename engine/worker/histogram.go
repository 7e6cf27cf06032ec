package worker

import "math/bits"

// Histogram counts values. A bucket is an eighth as wide as the power of two that it belongs to.
type Histogram struct {
	counts [64 * 8]uint64
	max    uint64
	sum    uint64
}

const (
	subBuckets = 8
	subBits    = 3
)

// add counts a value.
func (h *Histogram) add(v uint64) {
	h.counts[bucketOf(v)]++
	h.max = max(h.max, v)
	h.sum += v
}

// bucketOf returns the number of the bucket of a value: values Below 8 have one each, then eight
// per power of two.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	e := bits.Len64(v) - 1 - subBits
	return (e+1)*subBuckets + int(v>>e)&(subBuckets-1)
}

// highest returns the largest value of a bucket.
func highest(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	e := bucket/subBuckets - 1
	return (uint64(bucket%subBuckets+subBuckets)+1)<<e - 1
}

// Quantile returns a value that at least this fraction of all values does not exceed. It is at most
// an eighth too high.
func (h *Histogram) Quantile(fraction float64) uint64 {
	var total uint64
	for _, n := range h.counts {
		total += n
	}
	left := uint64(fraction * float64(total))
	for b, n := range h.counts {
		if n > left {
			return min(highest(b), h.max)
		}
		left -= n
	}
	return h.max
}

// Below returns for each bound the number of values that are less than it and not less than the
// bound before it, and last the number of values beyond all bounds. A bound must be a power of two,
// where a bucket begins.
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

// Add adds the values of another Histogram.
func (h *Histogram) Add(o *Histogram) {
	for b, n := range o.counts {
		h.counts[b] += n
	}
	h.max = max(h.max, o.max)
	h.sum += o.sum
}
