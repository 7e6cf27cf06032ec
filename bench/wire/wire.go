// Package wire measures what gets through a testbed: the packet generator at the client, its
// receiver at the server.
package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/bench/testbed"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/clock"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/tx"
)

// Load is the traffic of one measurement.
type Load struct {
	Flows      int
	FrameBytes int // without frame check sequence; 0: smallest with a stamp, 60 for UDP
	TCP        bool
	Ports      int     // of the VIP: flow i goes to testbed.FirstPort + i modulo Ports; 0: 1
	Rate       float64 // frames per second; 0: as many as possible
	Pick       flow.Kind

	Warm   time.Duration // before the window
	Window time.Duration
}

// Reading has the results of one window.
type Reading struct {
	Sent, Received uint64
	Seconds        float64
	Latency        *hdrhistogram.Histogram // ns; nil if it wasn't measured
}

// Mpps returns the rate that was received, in millions of frames per second.
func (r Reading) Mpps() float64 { return float64(r.Received) / r.Seconds / 1e6 }

// OfferedMpps returns the rate that was sent.
func (r Reading) OfferedMpps() float64 { return float64(r.Sent) / r.Seconds / 1e6 }

// Wire is a testbed's generator and receiver. It belongs to one goroutine.
type Wire struct {
	bed      *testbed.Bed
	cpu      int
	send     *port.Port
	receive  *port.Port
	receiver rx.Receiver
	latency  bool
	dmac     frame.MAC
	stream   uint8
}

// Open attaches the receiver. It must be there before a balancer's first frame.
func Open(s *testbed.Bed, cpu int, latency bool) (*Wire, error) {
	w := &Wire{bed: s, cpu: cpu, latency: latency}
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Wire) open() error {
	next, ifname := w.bed.Next()
	mac, err := next.MAC(ifname)
	if err != nil {
		return err
	}
	copy(w.dmac[:], mac)
	if w.send, err = port.Open(affinity.Affinity{Netns: w.bed.Client.Namespace(), CPU: w.cpu}, testbed.Eth); err != nil {
		return err
	}
	if w.receive, err = port.Open(affinity.Affinity{Netns: w.bed.Server.Namespace(), CPU: affinity.AnyCPU}, testbed.Eth); err != nil {
		return err
	}
	w.receiver, err = rx.Open(rx.Options{Port: w.receive, Latency: w.latency})
	return err
}

// Close detaches the receiver.
func (w *Wire) Close() error {
	var err error
	if w.receiver != nil {
		err = w.receiver.Close()
	}
	for _, p := range []*port.Port{w.send, w.receive} {
		if p != nil {
			p.Close()
		}
	}
	return err
}

func (w *Wire) traffic(l Load) tx.Traffic {
	s := frame.Spec{
		SourceMAC: w.send.MAC, DestinationMAC: w.dmac, TCP: l.TCP, Stream: w.stream,
		Source:      flow.Range{First: testbed.Sources.Addr().Next(), Addresses: 1 << 6, FirstPort: 1024, Ports: 64512},
		Destination: flow.Range{First: testbed.VIP, Addresses: 1, FirstPort: testbed.FirstPort, Ports: uint32(max(l.Ports, 1))},
		Sizes:       []int{l.FrameBytes},
	}
	if l.FrameBytes == 0 {
		s.Sizes[0] = s.Smallest()
	}
	return tx.Traffic{Spec: s, Model: flow.Model{Kind: l.Pick, Flows: uint32(l.Flows), Seed: 1}}
}

// Open sends one frame of each flow, at a rate that every balancer can follow, so that later
// measurements run on established flows.
func (w *Wire) Open(ctx context.Context, l Load, rate float64) error {
	l.Pick = flow.Round
	sender, err := w.sender(l, rate, uint64(l.Flows))
	if err != nil {
		return err
	}
	return errors.Join(sender.Send(ctx), sender.Close(), ctx.Err())
}

func (w *Wire) sender(l Load, rate float64, limit uint64) (tx.Sender, error) {
	w.stream++
	if err := w.receiver.Begin(w.stream); err != nil {
		return nil, err
	}
	return tx.New(w.traffic(l), tx.Options{Port: w.send, Backend: tx.Live, Rate: rate, Limit: limit})
}

// Measure sends from before the window until after it. atStart and atEnd are called at its two
// ends, if not nil.
func (w *Wire) Measure(ctx context.Context, l Load, atStart, atEnd func() error) (Reading, error) {
	sender, err := w.sender(l, l.Rate, 0)
	if err != nil {
		return Reading{}, err
	}
	sending, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- sender.Send(sending) }()
	reading, err := w.window(ctx, l, sender, ended, atStart, atEnd)
	stop()
	if err == nil {
		err = <-ended
	}
	return reading, errors.Join(err, sender.Close(), ctx.Err())
}

// window reads the counters of both ends twice.
func (w *Wire) window(ctx context.Context, l Load, sender tx.Sender, ended chan error, atStart, atEnd func() error) (r Reading, err error) {
	if err := pause(ctx, l.Warm, ended); err != nil {
		return r, err
	}
	if err := call(atStart); err != nil {
		return r, err
	}
	w.receiver.Latency()
	start, sent, received := w.look(sender)
	if err := pause(ctx, l.Window, ended); err != nil {
		return r, err
	}
	end, sentEnd, receivedEnd := w.look(sender)
	if w.latency {
		r.Latency = w.receiver.Latency()
	}
	r.Sent, r.Received = sentEnd-sent, receivedEnd-received
	r.Seconds = float64(end-start) / 1e9
	return r, call(atEnd)
}

func (w *Wire) look(sender tx.Sender) (ns int64, sent, received uint64) {
	counts := w.receiver.Counts()
	return clock.Now(), sender.Counts().Frames, counts.Frames
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

// pause waits, unless the sender ends before its time.
func pause(ctx context.Context, d time.Duration, ended chan error) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case err := <-ended:
		if err == nil {
			err = fmt.Errorf("the generator ended before its time")
		}
		ended <- err // for Measure, which waits for it
		return err
	}
}
