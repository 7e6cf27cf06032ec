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
	var one uint8
	return errors.Join(empty(p.opened, &flow, &opened), empty(p.fragments, &packet, &one))
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

// Age makes all that the XDP programs remember of connections older.
func (p *Program) Age(by time.Duration) error {
	var key steerFlow
	var value steerOpened
	aged := make(map[steerFlow]steerOpened)
	entries := p.opened.Iterate()
	for entries.Next(&key, &value) {
		value.SeenNs -= uint64(by)
		aged[key] = value
	}
	for k, v := range aged {
		if err := p.opened.Put(k, v); err != nil {
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
