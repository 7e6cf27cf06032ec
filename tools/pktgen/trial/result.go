package trial

import (
	"cmp"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/tx"
)

// Sample is what happened in one interval.
type Sample struct {
	AtS          float64 `json:"at_s"` // end of the interval, after the start
	SentPPS      float64 `json:"sent_pps"`
	ReceivedPPS  float64 `json:"received_pps"`
	Sent         uint64  `json:"sent"` // since the start
	Received     uint64  `json:"received"`
	Lost         uint64  `json:"lost"` // since the start, frames in flight included
	LatencyP50NS int64   `json:"latency_p50_ns,omitempty"`
	LatencyP99NS int64   `json:"latency_p99_ns,omitempty"`
}

// Latency describes a histogram, in ns.
type Latency struct {
	Count  int64   `json:"count"`
	MinNS  int64   `json:"min_ns"`
	MeanNS float64 `json:"mean_ns"`
	P50NS  int64   `json:"p50_ns"`
	P90NS  int64   `json:"p90_ns"`
	P99NS  int64   `json:"p99_ns"`
	P999NS int64   `json:"p99_9_ns"`
	MaxNS  int64   `json:"max_ns"`
}

func describe(h *hdrhistogram.Histogram) *Latency {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	return &Latency{Count: h.TotalCount(), MinNS: h.Min(), MeanNS: h.Mean(), P50NS: h.ValueAtQuantile(50),
		P90NS: h.ValueAtQuantile(90), P99NS: h.ValueAtQuantile(99), P999NS: h.ValueAtQuantile(99.9), MaxNS: h.Max()}
}

// Flows compares the two ends flow by flow.
type Flows struct {
	Sent     int        `json:"sent"`      // flows of which frames were sent; 0 without a sender
	Seen     int        `json:"seen"`      // of which frames were received
	WithLoss int        `json:"with_loss"` // of which frames are missing
	Late     int        `json:"late"`      // of which frames arrived after later ones
	Worst    []FlowLoss `json:"worst,omitempty"`
}

// FlowLoss is a flow of which frames are missing.
type FlowLoss struct {
	Flow     int    `json:"flow"`
	Sent     uint32 `json:"sent"`
	Received uint32 `json:"received"` // each sequence number once
}

// worstFlows bounds the flows that are listed.
const worstFlows = 10

// compareFlows compares what was sent and received of each flow. If sent is nil, the highest
// sequence number of a flow replaces it.
func compareFlows(sent []uint32, received []rx.Flow) *Flows {
	if received == nil {
		return nil
	}
	f := &Flows{}
	for i, r := range received {
		count := uint32(0)
		switch {
		case i < len(sent):
			count = sent[i]
		case r.Distinct > 0:
			count = r.Top + 1
		}
		if i < len(sent) && count > 0 {
			f.Sent++
		}
		if r.Distinct > 0 {
			f.Seen++
		}
		if r.Late > 0 {
			f.Late++
		}
		if r.Distinct < count {
			f.WithLoss++
			f.Worst = append(f.Worst, FlowLoss{Flow: i, Sent: count, Received: r.Distinct})
		}
	}
	slices.SortStableFunc(f.Worst, func(a, b FlowLoss) int { return cmp.Compare(b.Sent-b.Received, a.Sent-a.Received) })
	f.Worst = slices.Clone(f.Worst[:min(len(f.Worst), worstFlows)])
	return f
}

// Result is the result of one measurement.
type Result struct {
	Sender   string `json:"sender,omitempty"` // backend
	Receiver string `json:"receiver,omitempty"`

	AskedPPS    float64 `json:"asked_pps"` // 0: as fast as possible
	SentPPS     float64 `json:"sent_pps"`  // from the first to the last frame
	ReceivedPPS float64 `json:"received_pps"`
	SpanS       float64 `json:"span_s"` // from the first to the last frame

	Sent      uint64 `json:"sent"`
	SentBytes uint64 `json:"sent_bytes"`
	// Refused is how many of Sent the sending interface dropped, by its own counter.
	Refused       uint64  `json:"refused"`
	Received      uint64  `json:"received"` // duplicates included
	ReceivedBytes uint64  `json:"received_bytes"`
	Lost          uint64  `json:"lost"`    // sent and not received, refused ones included
	Surplus       uint64  `json:"surplus"` // received and not sent
	LossRatio     float64 `json:"loss_ratio"`

	Counts  *rx.Counts `json:"receiver_counts,omitempty"`
	Flows   *Flows     `json:"flows,omitempty"`
	Latency *Latency   `json:"latency,omitempty"`
	Samples []Sample   `json:"samples,omitempty"`

	// Histogram has the latencies that Latency describes; nil without latencies.
	Histogram *hdrhistogram.Histogram `json:"-"`
}

// Counting selects which received frames count.
type Counting uint8

// Values of Counting.
const (
	CountStamped Counting = iota // frames with a stamp of the stream
	CountPlain                   // TCP and UDP without a stamp
	CountAll                     // everything that was received
)

// of returns the number of frames that count, and their bytes. The bytes of frames other than TCP
// and UDP are not known.
func (c Counting) of(counts rx.Counts) (frames, bytes uint64) {
	switch c {
	case CountStamped:
		return counts.Frames, counts.Bytes
	case CountPlain:
		return counts.PlainFrames, counts.PlainBytes
	}
	return counts.Frames + counts.PlainFrames + counts.Foreign + counts.Other, counts.Bytes + counts.PlainBytes
}

// balance returns lost and surplus frames.
func balance(sent, received, duplicates uint64) (lost, surplus uint64) {
	distinct := received - min(duplicates, received)
	if distinct > sent {
		return 0, distinct - sent
	}
	return sent - distinct, 0
}

// settle computes the values that follow from the counts.
func (r *Result) settle(sent tx.Counts, counting Counting) {
	r.Sent, r.SentBytes, r.SentPPS = sent.Frames, sent.Bytes, sent.Rate()
	r.SpanS = float64(sent.LastNS-sent.FirstNS) / 1e9
	if r.Counts == nil {
		return
	}
	r.Received, r.ReceivedBytes = counting.of(*r.Counts)
	r.Lost, r.Surplus = balance(r.Sent, r.Received, r.Counts.Duplicates)
	if r.Sent > 0 {
		r.LossRatio = float64(r.Lost) / float64(r.Sent)
	}
	// The received frames took the same time, apart from the latency.
	if r.SpanS > 0 && r.Received > 1 {
		r.ReceivedPPS = float64(r.Received-1) / r.SpanS
	}
}
