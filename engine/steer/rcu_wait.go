package steer

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// rcuWait waits for runs of XDP programs. The kernel has no call for that. But an update of a map
// of maps returns only when all runs of programs that began before it have ended, so that user
// space may free the map that was replaced (kernel/bpf/syscall.c, maybe_wait_bpf_programs; since
// Linux 4.19).
type rcuWait struct{ outer, inner *ebpf.Map }

func newRCUWait() (*rcuWait, error) {
	inner := &ebpf.MapSpec{Name: "sluice_inner", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	outer := &ebpf.MapSpec{Name: "sluice_grace", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: inner}
	g := &rcuWait{}
	var err error
	if g.inner, err = ebpf.NewMap(inner); err != nil {
		return nil, err
	}
	if g.outer, err = ebpf.NewMap(outer); err != nil {
		g.inner.Close()
		return nil, err
	}
	return g, nil
}

// wait returns when all runs of the program that are under way have ended: some ten milliseconds.
func (g *rcuWait) wait() error {
	if err := g.outer.Put(uint32(0), g.inner); err != nil {
		return fmt.Errorf("steer: waiting for the XDP program to finish with the old rules: %w", err)
	}
	return nil
}

func (g *rcuWait) close() error {
	if g == nil {
		return nil
	}
	return errors.Join(g.outer.Close(), g.inner.Close())
}
