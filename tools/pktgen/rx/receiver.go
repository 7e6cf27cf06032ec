package rx

import (
	"fmt"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/tools/pktgen/port"
)

// Receiver receives from Open to Close. Its methods may be called by any goroutine, Begin and
// Latency by one at a time.
type Receiver interface {
	// Begin starts a new measurement: Counts begin at 0, and frames of other streams count as
	// foreign from now on.
	Begin(stream uint8) error
	// Counts returns what was received since Begin.
	Counts() Counts
	// Latency returns the latencies since its last call, or since Begin.
	Latency() *hdrhistogram.Histogram
	// Flows returns the state of each flow of the stream, by number; nil if flows are not followed.
	Flows() []Flow
	Backend() Backend
	// Err returns why the receiver has stopped, nil while it runs.
	Err() error
	Close() error
}

// Counts counts received frames. Frames and Plain together are all TCP and UDP except foreign ones.
type Counts struct {
	Frames      uint64 `json:"frames"` // with a stamp of the stream
	Bytes       uint64 `json:"bytes"`
	PlainFrames uint64 `json:"plain_frames"` // TCP and UDP without a stamp
	PlainBytes  uint64 `json:"plain_bytes"`
	Foreign     uint64 `json:"foreign"` // with a stamp of another stream
	Other       uint64 `json:"other"`   // neither TCP nor UDP
	Duplicates  uint64 `json:"duplicates"`
	Reordered   uint64 `json:"reordered"`
	Ancient     uint64 `json:"ancient"` // reordered by more than 64: may be duplicates
	Overrun     uint64 `json:"overrun"` // received, but lost because the sockets were too slow
}

// Flow is the state of one flow.
type Flow struct {
	Distinct uint32 // how many different sequence numbers were received
	Top      uint32 // the highest one
	Late     uint32 // how many arrived after a later one
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

// Options configures a receiver.
type Options struct {
	Port    *port.Port // its Affinity is where an XSK receiver runs; the caller closes it
	Backend Backend
	Flows   uint32 // follow flows below this number, others are foreign; 0: follow none, take all
	Latency bool   // measure it
}

// Open attaches the receiver to the interface. It fails if the interface has an XDP program.
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
