package trial

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/tx"
)

// End is where frames leave or arrive.
type End struct {
	Affinity  affinity.Affinity
	Interface string
}

// Setup configures a Line.
type Setup struct {
	Send     End
	Sender   tx.Backend
	Queue    int  // of the sending interface, for tx.XSK
	Receive  *End // nil: only send
	Receiver rx.Backend
	// Zero MAC addresses of Traffic are filled in: the source's is that of the sending interface,
	// the destination's that of the next hop, or without a route that of the receiving interface.
	Traffic tx.Traffic
	Follow  bool // measure order, duplicates and loss of each flow
	Latency bool // measure it
}

// Load is one measurement on a line.
type Load struct {
	Rate     float64       // frames per second, 0 for as many as possible
	Duration time.Duration // 0: until the limit is reached or ctx ends
	Limit    uint64        // frames, 0: none
	Every    time.Duration // as in Measurement
	OnSample func(Sample)
}

// Line is a pair of open ends, for one measurement after the other. It belongs to one goroutine.
type Line struct {
	setup    Setup
	send     *port.Port
	receive  *port.Port // nil: none
	receiver rx.Receiver
	stream   uint8
}

// Open attaches the receiver and resolves the MAC addresses.
func Open(s Setup) (*Line, error) {
	l := &Line{setup: s}
	if err := l.open(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Line) open() (err error) {
	if l.send, err = port.Open(l.setup.Send.Affinity, l.setup.Send.Interface); err != nil {
		return err
	}
	if r := l.setup.Receive; r != nil {
		if l.receive, err = port.Open(r.Affinity, r.Interface); err != nil {
			return err
		}
	}
	if err := l.findMACs(); err != nil {
		return err
	}
	if err := l.setup.Traffic.Check(); err != nil {
		return err
	}
	if l.receive == nil {
		return nil
	}
	o := rx.Options{Port: l.receive, Backend: l.setup.Receiver, Latency: l.setup.Latency}
	if l.setup.Follow && l.setup.Traffic.Spec.Stamped() {
		o.Flows = l.setup.Traffic.Model.Stamped()
	}
	l.receiver, err = rx.Open(o)
	return err
}

func (l *Line) findMACs() (err error) {
	spec := &l.setup.Traffic.Spec
	if spec.SourceMAC == (frame.MAC{}) {
		spec.SourceMAC = l.send.MAC
	}
	if spec.DestinationMAC != (frame.MAC{}) {
		return nil
	}
	if err := spec.Destination.Check(); err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	spec.DestinationMAC, err = l.send.NextHop(spec.Destination.First)
	if errors.Is(err, port.ErrNoRoute) && l.receive != nil {
		spec.DestinationMAC, err = l.receive.MAC, nil
	}
	return err
}

// Traffic returns the traffic with the resolved MAC addresses.
func (l *Line) Traffic() tx.Traffic { return l.setup.Traffic }

// Run makes one measurement. It begins a new stream, so that late frames of the one before are not
// counted, except frames without a stamp.
func (l *Line) Run(ctx context.Context, load Load) (Result, error) {
	l.stream++
	t := l.setup.Traffic
	t.Spec.Stream = l.stream
	m := Measurement{Port: l.send, Receiver: l.receiver, Every: load.Every, OnSample: load.OnSample}
	if !t.Spec.Stamped() {
		m.Counting = CountPlain
	}
	var err error
	m.Sender, err = tx.New(t, tx.Options{Port: l.send, Queue: l.setup.Queue, Backend: l.setup.Sender, Rate: load.Rate, Limit: load.Limit})
	if err != nil {
		return Result{}, err
	}
	defer m.Sender.Close()
	if l.receiver != nil {
		if err := l.receiver.Begin(l.stream); err != nil {
			return Result{}, err
		}
	}
	if load.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, load.Duration)
		defer cancel()
	}
	result, err := m.Run(ctx)
	result.AskedPPS = load.Rate
	return result, err
}

// Close detaches the receiver.
func (l *Line) Close() error {
	var err error
	if l.receiver != nil {
		err = l.receiver.Close()
	}
	for _, p := range []*port.Port{l.send, l.receive} {
		if p != nil {
			p.Close()
		}
	}
	return err
}
