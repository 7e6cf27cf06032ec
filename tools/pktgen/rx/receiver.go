package rx

import (
	"fmt"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/tools/pktgen/port"
)

// Receiver receives from Open to Close. Its methods may be called by any goroutine, but Begin and
// Latency by one at a time.
type Receiver interface {
	// Begin starts a new measurement: Counts begin at 0, and frames of other streams count as
	// foreign from now on.
	Begin(stream uint8) error
	// Counts returns what came since Begin.
	Counts() Counts
	// Latency returns what was measured since the last call of it, or since Begin.
	Latency() *hdrhistogram.Histogram
	// Flows returns what is known of each flow of the stream, by number; nil if flows aren't
	// followed.
	Flows() []Flow
	Backend() Backend
	// Err returns why it has stopped receiving, nil while it goes on.
	Err() error
	Close() error
}

// Counts is what a receiver has received. Frames and plain ones together are all TCP and UDP that
// came but foreign ones.
type Counts struct {
	Frames      uint64 `json:"frames"` // with a stamp of the stream
	Bytes       uint64 `json:"bytes"`
	PlainFrames uint64 `json:"plain_frames"` // TCP and UDP without a stamp
	PlainBytes  uint64 `json:"plain_bytes"`
	Foreign     uint64 `json:"foreign"` // with a stamp of another stream
	Other       uint64 `json:"other"`   // neither TCP nor UDP
	Duplicates  uint64 `json:"duplicates"`
	Reordered   uint64 `json:"reordered"`
	Ancient     uint64 `json:"ancient"` // reordered by more than is remembered: may be duplicates
	Overrun     uint64 `json:"overrun"` // came to the interface, but the receiver's sockets were too slow to take them
}

// Flow is what is known of one flow.
type Flow struct {
	Distinct uint32 // how many different sequence numbers came
	Top      uint32 // the highest one
	Late     uint32 // how many came after a later one
}

// Backend is a way of receiving.
type Backend uint8

// The backends.
const (
	Kernel Backend = iota
	XSK
)

var backendNames = [...]string{Kernel: "kernel", XSK: "xsk"}

// String returns the name that ParseBackend reads.
func (b Backend) String() string { return backendNames[b] }

// ParseBackend reads kernel or xsk.
func ParseBackend(text string) (Backend, error) {
	for b, name := range backendNames {
		if text == name {
			return Backend(b), nil
		}
	}
	return 0, fmt.Errorf("%q is not one of %s", text, strings.Join(backendNames[:], ", "))
}

// Options says how to receive.
type Options struct {
	Port    *port.Port // its Place is where an XSK receiver runs; stays the caller's
	Backend Backend
	Flows   uint32 // follow the flows with lower numbers; higher ones count as foreign. 0: don't, and take all
	Latency bool   // measure it
}

// Open attaches the receiver to the interface. Something else's XDP program there is an error.
func Open(o Options) (Receiver, error) {
	if err := o.Port.CheckUp(); err != nil {
		return nil, err
	}
	s, err := openSink(o)
	if err != nil {
		return nil, fmt.Errorf("receiving from %s: %w", o.Port.Name, err)
	}
	if o.Backend == Kernel {
		return s, nil
	}
	r, err := openSockets(o, s)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("receiving from %s: %w", o.Port.Name, err)
	}
	return r, nil
}
