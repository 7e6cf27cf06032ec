package tx

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
)

// Sender sends frames until its limit is reached. Send is called once, by any goroutine; Counts by
// any at any time; Close after Send.
type Sender interface {
	// Send returns nil when the limit is reached, the source is empty or ctx ends. Counts is final
	// then.
	Send(ctx context.Context) error
	// Counts returns what has been sent so far.
	Counts() Counts
	// FlowsSent returns, after Send, how many frames of each flow were sent; nil if that is not
	// known.
	FlowsSent() []uint32
	Backend() Backend
	Close() error
}

// Counts counts what a sender has sent, and has the times in ns of CLOCK_MONOTONIC.
type Counts struct {
	Frames, Bytes   uint64
	FirstNS, LastNS int64 // 0 before the first frame
}

// Rate returns the frames per second from the first to the last one, 0 if there are fewer than two.
func (c Counts) Rate() float64 {
	if c.Frames < 2 || c.LastNS <= c.FirstNS {
		return 0
	}
	return float64(c.Frames-1) / float64(c.LastNS-c.FirstNS) * 1e9
}

// Backend is a way of sending.
type Backend uint8

// The backends.
const (
	Auto Backend = iota // Live, else XSK, else Packet: the first that works
	Live
	XSK
	Packet
)

var backendNames = [...]string{Auto: "auto", Live: "live", XSK: "xsk", Packet: "packet"}

// String returns the name that ParseBackend reads.
func (b Backend) String() string { return backendNames[b] }

// ParseBackend reads auto, live, xsk or packet.
func ParseBackend(text string) (Backend, error) {
	for b, name := range backendNames {
		if text == name {
			return Backend(b), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", text, strings.Join(backendNames[:], ", "))
}

// Traffic describes what to send: frames of a Spec, with flows of a Model.
type Traffic struct {
	Spec  frame.Spec
	Model flow.Model
}

// Check returns what is wrong.
func (t Traffic) Check() error {
	if err := t.Spec.Check(); err != nil {
		return err
	}
	return t.Model.Check(t.Spec.Source.Size())
}

// Options configures a sender.
type Options struct {
	Port    *port.Port // its Affinity is where the sender runs; the caller closes it
	Queue   int        // XSK: of the interface
	Backend Backend
	Rate    float64 // frames per second, 0 for as many as possible
	Limit   uint64  // frames, 0 for none
}

func (o Options) check(longest int) error {
	if o.Rate < 0 || o.Rate > MaxRate {
		return fmt.Errorf("rate %v: possible is 0 (as fast as possible) up to %v frames per second", o.Rate, MaxRate)
	}
	const ethernetBytes = 14
	if longest-ethernetBytes > o.Port.MTU {
		return fmt.Errorf("frames of %d bytes don't fit the MTU %d of interface %s: it takes up to %d (with the %d of the frame check sequence)",
			longest+frame.FCSBytes, o.Port.MTU, o.Port.Name, o.Port.MTU+ethernetBytes+frame.FCSBytes, frame.FCSBytes)
	}
	if o.Queue < 0 || o.Queue >= o.Port.TXs {
		return fmt.Errorf("queue %d: interface %s has %d, numbered from 0", o.Queue, o.Port.Name, o.Port.TXs)
	}
	return o.Port.CheckUp()
}

// New returns a sender for traffic. With Auto it takes the first backend that works.
func New(t Traffic, o Options) (Sender, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if err := o.check(t.Spec.Largest()); err != nil {
		return nil, err
	}
	make := func(b Backend) (Sender, error) {
		if b == Live {
			return newLive(t, o)
		}
		source, err := frame.NewBuilder(t.Spec, t.Model)
		if err != nil {
			return nil, err
		}
		return newLoop(b, source, NewPace(o.Rate), o)
	}
	return first(o.Backend, []Backend{Live, XSK, Packet}, make)
}

// NewReplay returns a sender for frames of any other source, which the kernel cannot generate: Auto
// is XSK or Packet.
func NewReplay(source Source, pace Pacer, o Options) (Sender, error) {
	if o.Backend == Live {
		return nil, errors.New("backend live makes its frames in the kernel and can't send others: use xsk or packet")
	}
	if err := o.check(source.MaxBytes()); err != nil {
		return nil, err
	}
	return first(o.Backend, []Backend{XSK, Packet}, func(b Backend) (Sender, error) { return newLoop(b, source, pace, o) })
}

// first returns the sender of the requested backend, or with Auto the first one that works.
func first(asked Backend, all []Backend, make func(Backend) (Sender, error)) (Sender, error) {
	if asked != Auto {
		return make(asked)
	}
	var errs []error
	for _, b := range all {
		s, err := make(b)
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", b, err))
	}
	return nil, errors.Join(errs...)
}
