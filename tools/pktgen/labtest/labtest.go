// Package labtest has what the tests of the generator share: two hosts with a wire between them.
package labtest

import (
	"os"
	"testing"
	"time"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/port"
)

// WaitLimit bounds the waits of tests.
const WaitLimit = 20 * time.Second

// NeedRoot skips the test if it isn't run by root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces and XDP")
	}
}

// Pair is a host that sends, one that receives, and a wire between their interfaces eth0.
type Pair struct {
	Lab            *netlab.Lab
	Sender, Sink   *netlab.Host
	SendAt, SinkAt *port.Port
}

// NewPair returns a pair that goes away with the test.
func NewPair(t testing.TB, o netlab.LinkOptions) *Pair {
	t.Helper()
	NeedRoot(t)
	lab, err := netlab.New("pktgen")
	Must(t, err)
	t.Cleanup(func() { Must(t, lab.Close()) })
	p := &Pair{Lab: lab}
	p.Sender, err = lab.Host("sender")
	Must(t, err)
	p.Sink, err = lab.Host("sink")
	Must(t, err)
	Must(t, lab.Link(p.Sink, "eth0", p.Sender, "eth0", o))
	p.SendAt, p.SinkAt = Port(t, p.Sender), Port(t, p.Sink)
	return p
}

// Affinity returns the affinity of a host.
func Affinity(h *netlab.Host) affinity.Affinity {
	return affinity.Affinity{Netns: h.Namespace(), CPU: affinity.AnyCPU}
}

// Port opens the interface eth0 of a host.
func Port(t testing.TB, h *netlab.Host) *port.Port {
	t.Helper()
	p, err := port.Open(Affinity(h), "eth0")
	Must(t, err)
	t.Cleanup(p.Close)
	return p
}

// Must fails the test at once if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
