package steer

import (
	"errors"
	"time"

	"github.com/cilium/ebpf"
)

// Forget empties what the XDP programs remember of packets.
func (p *Program) Forget() error {
	var flow steerFlow
	var opened steerOpened
	var packet steerFragments
	var firstNs uint64
	return errors.Join(empty(p.opened, &flow, &opened), empty(p.fragments, &packet, &firstNs))
}

func empty[K, V any](m *ebpf.Map, key *K, value *V) error {
	var keys []K
	entries := m.Iterate()
	for entries.Next(key, value) {
		keys = append(keys, *key)
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil {
			return err
		}
	}
	return entries.Err()
}

// Age makes all that the XDP programs remember older.
func (p *Program) Age(by time.Duration) error {
	return errors.Join(
		age(p.opened, func(_ *steerFlow, of *steerOpened) { of.SeenNs -= uint64(by) }),
		age(p.fragments, func(_ *steerFragments, firstNs *uint64) { *firstNs -= uint64(by) }))
}

// age changes the value of each entry.
func age[K comparable, V any](m *ebpf.Map, older func(*K, *V)) error {
	var key K
	var value V
	aged := make(map[K]V)
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		older(&key, &value)
		aged[key] = value
	}
	for k, v := range aged {
		if err := m.Put(k, v); err != nil {
			return err
		}
	}
	return entries.Err()
}

// Run gives a frame to the program as if the port had received it on queue 0, and returns what the
// program returns: 1 (drop: for Sluice, but no socket), 2 (pass) or 4 (redirect).
func (p *Port) Run(frame []byte) (uint32, error) {
	return p.sockets.Program.Run(&ebpf.RunOptions{Data: frame})
}

// Benchmark runs the program n times on a frame and returns what one run takes on average.
func (p *Port) Benchmark(frame []byte, n int) (action uint32, perRun time.Duration, err error) {
	return p.sockets.Program.Benchmark(frame, n, nil)
}
