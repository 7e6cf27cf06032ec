package rx

import (
	"math/bits"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Geometry of sink.c's latency buckets: values below subBuckets ns have a bucket each, above that
// each power of two has subBuckets.
const (
	subBits     = 6
	subBuckets  = 1 << subBits
	longestBits = 36
	buckets     = (longestBits - subBits + 1) * subBuckets
)

// LongestNS is the longest latency that is measured exactly: about 69 s.
const LongestNS = 1<<longestBits - 1

// digits is the precision of the histograms.
const digits = 3

// NewHistogram returns an empty histogram of latencies in ns.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, LongestNS, digits) }

// bucketOf returns the bucket of a latency, as sink.c does.
func bucketOf(ns uint64) int {
	ns = min(ns, LongestNS)
	if ns < subBuckets {
		return int(ns)
	}
	shift := bits.Len64(ns) - 1 - subBits
	return shift<<subBits + int(ns>>shift)
}

// middleOf returns the middle of a bucket's values: at most 1/128 from each of them.
func middleOf(bucket int) int64 {
	if bucket < 2*subBuckets {
		return int64(bucket)
	}
	shift := bucket>>subBits - 1
	lowest := int64(bucket-shift<<subBits) << shift
	return lowest + 1<<shift/2
}
