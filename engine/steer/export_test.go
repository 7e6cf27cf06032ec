package steer

import (
	"time"

	"github.com/cilium/ebpf"
)

// Run gives a frame to the program as if the port had received it on queue 0, and returns what the
// program returns: 1 (drop: for Sluice, but no socket), 2 (pass) or 4 (redirect).
func (p *Port) Run(frame []byte) (uint32, error) {
	return p.sockets.Program.Run(&ebpf.RunOptions{Data: frame})
}

// Benchmark runs the program n times on a frame and returns what one run takes on average.
func (p *Port) Benchmark(frame []byte, n int) (action uint32, perRun time.Duration, err error) {
	return p.sockets.Program.Benchmark(frame, n, nil)
}
