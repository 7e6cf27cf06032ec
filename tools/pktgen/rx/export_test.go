package rx

import (
	"github.com/cilium/ebpf"

	"sluice/tools/pktgen/frame"
)

// Tally is the counting of the XSK receiver.
type Tally struct{ t tally }

// NewTally returns a tally of a stream that follows so many flows.
func NewTally(stream uint8, flows int) *Tally {
	return &Tally{tally{stream: stream, flows: make([]follow, flows)}}
}

func (t *Tally) Take(b []byte) (frame.Stamp, bool) { return t.t.take(b) }
func (t *Tally) Counts() Counts                    { return t.t.counts }
func (t *Tally) Flows() []Flow                     { return t.t.list() }

// Program returns the XDP program of a receiver.
func Program(r Receiver) *ebpf.Program { return r.(*sink).objects.PktgenSink }

// BucketOf and MiddleOf are the layout of the latency buckets.
var (
	BucketOf = bucketOf
	MiddleOf = middleOf
)

// Buckets is the number of buckets.
const Buckets = buckets
