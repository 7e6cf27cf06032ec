package rx_test

import (
	"encoding/binary"
	"testing"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/clock"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/rx"
)

// TestBucketsAreNarrow: the middle of a value's bucket is within 1/128 of the value, and buckets go
// up with values.
func TestBucketsAreNarrow(t *testing.T) {
	last := -1
	for ns := uint64(0); ns <= rx.LongestNS; ns += 1 + ns/1000 {
		bucket := rx.BucketOf(ns)
		if bucket < last || bucket > last+1 || bucket >= rx.Buckets {
			t.Fatalf("%d ns is in bucket %d after %d", ns, bucket, last)
		}
		last = bucket
		middle := rx.MiddleOf(bucket)
		if d := middle - int64(ns); d > int64(ns/128)+1 || -d > int64(ns/128)+1 || rx.BucketOf(uint64(middle)) != bucket {
			t.Fatalf("%d ns is in bucket %d with the middle %d", ns, bucket, middle)
		}
	}
	if rx.BucketOf(rx.LongestNS) != rx.Buckets-1 || rx.BucketOf(1<<60) != rx.Buckets-1 {
		t.Error("the longest latencies aren't in the last bucket")
	}
}

// TestSinkMeasuresLatency: what the program in the kernel records lies between the values before
// and after it ran.
func TestSinkMeasuresLatency(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	receiver, err := rx.Open(rx.Options{Port: pair.SinkAt, Latency: true})
	labtest.Must(t, err)
	defer receiver.Close()
	labtest.Must(t, receiver.Begin(1))
	f := stamped(t, 1)(0, 0)
	// 1 s in the future: clocks of two CPUs may differ, and a latency is never negative.
	for _, ago := range []int64{-1e9, 0, 100, 5_000, 1_000_000, 3_000_000_000, 1 << 40} {
		sent := clock.Now() - ago
		binary.BigEndian.PutUint64(f[52:], uint64(sent))
		least := max(clock.Now()-sent, 0)
		feed(t, receiver, f)
		most := max(clock.Now()-sent, 0)
		h := receiver.Latency()
		// The clocks are compared to 1 us, the bucket to 1/64, the histogram to 1/1000.
		low, high := min(least, rx.LongestNS)*98/100-1000, min(most, rx.LongestNS)*102/100+1000
		if h.TotalCount() != 1 || h.Max() < low || h.Max() > high {
			t.Errorf("a frame that was sent %d ns ago: %d values up to %d, want one from %d to %d", ago, h.TotalCount(), h.Max(), least, most)
		}
	}
	if n := receiver.Latency().TotalCount(); n != 0 {
		t.Errorf("%d values are told twice", n)
	}
}

// TestForeignProgramIsAnError: a receiver does not replace another XDP program.
func TestForeignProgramIsAnError(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{PeerXDP: true})
	if r, err := rx.Open(rx.Options{Port: pair.SinkAt}); err == nil {
		r.Close()
		t.Error("it attached beside another program")
	}
}
