// Package peers starts what a benchmark compares, each in the balancer's namespace of a testbed of its
// own: Sluice, the loops of package loops, and the kernel's and others' balancers, which come from
// Debian by name and get their configuration from here.
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
	// testbed's Close ends whatever still runs. A *Missing error says that this machine doesn't
	// have the system.
	Start(ctx context.Context, s *testbed.Bed) error
	// Counters is what it has done since the start.
	Counters(ctx context.Context) (Counters, error)
	// Stop ends it.
	Stop() error
}

// Counters is what a peer tells about itself.
type Counters struct {
	Known    bool   // false: it tells nothing
	InKernel bool   // it makes no system call for a packet, ever
	Frames   uint64 // forwarded
	Received uint64
	Batches  uint64 // that were not empty; 0: unknown
	Syscalls float64
	CPUNs    float64 // time that its threads ran
	Mode     string  // how it has its ports; "" for those that have none of their own
}

// Since is the difference to an earlier look.
func (c Counters) Since(before Counters) Counters {
	c.Frames -= before.Frames
	c.Received -= before.Received
	c.Batches -= min(before.Batches, c.Batches)
	c.Syscalls -= before.Syscalls
	c.CPUNs -= before.CPUNs
	return c
}

// SyscallsPerPacket is -1 if it isn't known.
func (c Counters) SyscallsPerPacket() float64 {
	if c.InKernel {
		return 0
	}
	if !c.Known || c.Frames == 0 {
		return -1
	}
	return c.Syscalls / float64(c.Frames)
}

// Missing says why a system can't be measured on this machine.
type Missing struct{ Reason string }

func (m *Missing) Error() string { return m.Reason }

// IsMissing gives the reason if err is, or wraps, a *Missing.
func IsMissing(err error) (reason string, missing bool) {
	var m *Missing
	if errors.As(err, &m) {
		return m.Reason, true
	}
	return "", false
}

func missing(format string, args ...any) error { return &Missing{fmt.Sprintf(format, args...)} }
