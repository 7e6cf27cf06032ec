package trial

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/tx"
)

// Measurement is two ends that are ready.
type Measurement struct {
	Sender   tx.Sender   // nil: only receive, until ctx ends or Limit frames are received
	Port     *port.Port  // the sender's, for its counters
	Receiver rx.Receiver // nil: only send
	Counting Counting    // which received frames to count
	Limit    uint64      // without a sender: frames to wait for; 0: none

	Every    time.Duration // between two samples; 0: a second
	OnSample func(Sample)  // called with each, on the goroutine of Run; may be nil
}

// The last frames may take up to drainTimeout to arrive, as in RFC 2544, section 24. The wait ends
// earlier if all have arrived, or if none has arrived for quiet.
const (
	drainTimeout = 2 * time.Second
	quiet        = 500 * time.Millisecond
	drainLook    = 2 * time.Millisecond
)

// recorder collects the samples of one run.
type recorder struct {
	*Measurement
	began  time.Time
	last   Sample
	total  *hdrhistogram.Histogram
	result Result
}

// Run sends until the sender's limit is reached or ctx ends, waits for the last frames, and
// compares. The receiver must have begun. If the sender or the receiver fails, the result is what
// was measured before.
func (m *Measurement) Run(ctx context.Context) (Result, error) {
	r := &recorder{Measurement: m, began: time.Now()}
	before, err := m.dropped()
	if err != nil {
		return Result{}, err
	}
	if m.Receiver != nil {
		r.total = rx.NewHistogram()
		r.result.Receiver = m.Receiver.Backend().String()
	}
	err = r.watch(ctx)
	if err == nil && m.Sender != nil && m.Receiver != nil {
		r.drain()
	}
	if err == nil && m.Receiver != nil {
		err = m.Receiver.Err()
	}
	after, dropErr := m.dropped()
	if err == nil {
		err = dropErr
	}
	r.result.Refused = after - min(before, after)
	r.finish()
	return r.result, err
}

// dropped returns how many frames the sending interface has dropped so far.
func (m *Measurement) dropped() (uint64, error) {
	if m.Port == nil {
		return 0, nil
	}
	s, err := m.Port.Statistics()
	return s.TxDropped, err
}

// watch takes samples until the sender has ended.
func (r *recorder) watch(ctx context.Context) error {
	every := r.Every
	if every == 0 {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	ended := make(chan error, 1)
	if r.Sender != nil {
		r.result.Sender = r.Sender.Backend().String()
		go func() { ended <- r.Sender.Send(ctx) }()
	} else {
		go func() { ended <- r.receive(ctx) }()
	}
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			r.sample()
		}
	}
}

// receive waits for frames of another sender.
func (r *recorder) receive(ctx context.Context) error {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		if received, _ := r.Counting.of(r.Receiver.Counts()); r.Limit > 0 && received >= r.Limit {
			return nil
		}
		if err := r.Receiver.Err(); err != nil {
			return err
		}
	}
}

// drain waits for frames that are in flight.
func (r *recorder) drain() {
	sent := r.Sender.Counts().Frames
	last, since := uint64(0), time.Now()
	for deadline := time.Now().Add(drainTimeout); time.Now().Before(deadline); time.Sleep(drainLook) {
		counts := r.Receiver.Counts()
		received, _ := r.Counting.of(counts)
		if received != last {
			last, since = received, time.Now()
		}
		if received-min(counts.Duplicates, received) >= sent || time.Since(since) > quiet {
			return
		}
	}
}

// sample returns what happened since the last sample.
func (r *recorder) sample() {
	s := Sample{AtS: time.Since(r.began).Seconds()}
	if r.Sender != nil {
		s.Sent = r.Sender.Counts().Frames
	}
	if r.Receiver != nil {
		counts := r.Receiver.Counts()
		s.Received, _ = r.Counting.of(counts)
		if r.Sender != nil {
			s.Lost, _ = balance(s.Sent, s.Received, counts.Duplicates)
		}
		if h := r.Receiver.Latency(); h.TotalCount() > 0 {
			s.LatencyP50NS, s.LatencyP99NS = h.ValueAtQuantile(50), h.ValueAtQuantile(99)
			r.total.Merge(h)
		}
	}
	seconds := s.AtS - r.last.AtS
	s.SentPPS = float64(s.Sent-r.last.Sent) / seconds
	s.ReceivedPPS = float64(s.Received-r.last.Received) / seconds
	r.last = s
	r.result.Samples = append(r.result.Samples, s)
	if r.OnSample != nil {
		r.OnSample(s)
	}
}

// finish fills in the result.
func (r *recorder) finish() {
	var sent tx.Counts
	var flowsSent []uint32
	if r.Sender != nil {
		sent, flowsSent = r.Sender.Counts(), r.Sender.FlowsSent()
	}
	if r.Receiver != nil {
		r.total.Merge(r.Receiver.Latency())
		counts := r.Receiver.Counts()
		r.result.Counts = &counts
		if r.Counting == CountStamped {
			r.result.Flows = compareFlows(flowsSent, r.Receiver.Flows())
		}
		r.result.Latency, r.result.Histogram = describe(r.total), r.total
	}
	r.result.settle(sent, r.Counting)
	if r.Sender == nil {
		r.result.Lost, r.result.Surplus = 0, 0
		if s := time.Since(r.began).Seconds(); s > 0 {
			r.result.SpanS, r.result.ReceivedPPS = s, float64(r.result.Received)/s
		}
	}
}
