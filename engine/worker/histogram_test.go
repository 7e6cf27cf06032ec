package worker

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestBucketsAreGapless(t *testing.T) {
	for b := 0; b < 61*subBuckets; b++ {
		top := highest(b)
		if bucketOf(top) != b || bucketOf(top+1) != b+1 {
			t.Fatalf("bucket %d ends at %d, but that is in %d and the next in %d", b, top, bucketOf(top), bucketOf(top+1))
		}
	}
	if b := bucketOf(^uint64(0)); b >= len(Histogram{}.counts) {
		t.Fatalf("the largest value is in bucket %d", b)
	}
}

func TestQuantilesAgainstSorting(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var h Histogram
	var all []uint64
	for range 10_000 {
		v := random.Uint64() >> (random.Uint64() % 64)
		h.add(v)
		all = append(all, v)
	}
	slices.Sort(all)
	for _, share := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(share*float64(len(all)))]
		if got := h.Quantile(share); got < want || float64(got) > float64(want)*1.125+1 {
			t.Errorf("quantile %v is %d, sorted values say %d", share, got, want)
		}
	}
	if h.Quantile(1) != all[len(all)-1] {
		t.Errorf("quantile 1 is %d, the largest value %d", h.Quantile(1), all[len(all)-1])
	}
}

// Bounds that are powers of two split the values exactly.
func TestHistogramBelow(t *testing.T) {
	var h Histogram
	for _, v := range []uint64{0, 7, 1023, 1024, 4095, 4096, 1 << 40} {
		h.add(v)
	}
	if got, want := h.Below([]uint64{1 << 10, 1 << 12}), []uint64{3, 2, 2}; !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
	if want := uint64(0 + 7 + 1023 + 1024 + 4095 + 4096 + 1<<40); h.sum != want {
		t.Errorf("sum %d, not %d", h.sum, want)
	}
}
