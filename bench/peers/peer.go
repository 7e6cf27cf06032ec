// Package peers starts what a benchmark compares, each in the balancer's namespace of a testbed of
// its own: Sluice, the loops of package loops, and the kernel's and others' balancers, which are
// Debian packages and get their configuration from here.
package peers

import (
	"context"
	"errors"
	"fmt"

	"sluice/bench/testbed"
)

// Peer is one system under test. It belongs to one goroutine.
type Peer interface {
	// Start sets up the balancer of the testbed. It returns when frames are forwarded. The
	// testbed's Close ends all processes that still run. A *Missing error means that this machine
	// does not have the system.
	Start(ctx context.Context, s *testbed.Bed) error
	// Counters returns what the peer has done since Start.
	Counters(ctx context.Context) (Counters, error)
	// Stop ends it.
	Stop() error
}

// Counters has the counters of a peer.
type Counters struct {
	Known    bool   // false: it has no counters
	InKernel bool   // it never makes a system call for a packet
	Frames   uint64 // forwarded
	Received uint64
	Batches  uint64 // batches that were not empty; 0: unknown
	Syscalls float64
	CPUNs    float64 // time that its threads ran
	Mode     string  // how it has its ports; "" for those that have none of their own
}

// Since returns the difference to earlier counters.
func (c Counters) Since(before Counters) Counters {
	c.Frames -= before.Frames
	c.Received -= before.Received
	c.Batches -= min(before.Batches, c.Batches)
	c.Syscalls -= before.Syscalls
	c.CPUNs -= before.CPUNs
	return c
}

// SyscallsPerPacket returns -1 if the number is not known.
func (c Counters) SyscallsPerPacket() float64 {
	if c.InKernel {
		return 0
	}
	if !c.Known || c.Frames == 0 {
		return -1
	}
	return c.Syscalls / float64(c.Frames)
}

// Missing has the reason why a system cannot be measured on this machine.
type Missing struct{ Reason string }

func (m *Missing) Error() string { return m.Reason }

// IsMissing returns the reason if err is, or wraps, a *Missing.
func IsMissing(err error) (reason string, missing bool) {
	var m *Missing
	if errors.As(err, &m) {
		return m.Reason, true
	}
	return "", false
}

func missing(format string, args ...any) error { return &Missing{fmt.Sprintf(format, args...)} }
