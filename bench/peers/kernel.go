package peers

import (
	"context"
	"errors"

	"sluice/bench/testbed"
)

// Forward is the kernel's IP forwarding: a route to the first backend and nothing else.
type Forward struct {
	CPU     int
	Sockets bool // as in NFTables
}

// Start implements Peer.
func (f *Forward) Start(_ context.Context, s *testbed.Bed) error {
	return errors.Join(
		forwarding(s, f.CPU, !f.Sockets),
		s.Balancer.Route(testbed.VIP.String()+"/32", testbed.Backend(0).String()),
	)
}

// Counters implements Peer.
func (f *Forward) Counters(context.Context) (Counters, error) { return Counters{InKernel: true}, nil }

// Stop implements Peer.
func (f *Forward) Stop() error { return nil }

// forwarding makes the kernel forward, on the given CPU. Frames of the generator come from an XDP
// program and reach a veth only if it polls its queues, so it gets an XDP program that passes
// everything.
func forwarding(s *testbed.Bed, cpu int, fromXDP bool) error {
	err := errors.Join(
		s.Balancer.Sysctl("net.ipv4.ip_forward", "1"),
		s.Balancer.Sysctl("net.ipv4.conf.all.send_redirects", "0"),
		handToCPU(s, cpu),
	)
	if fromXDP {
		err = errors.Join(err, s.Balancer.PassXDP(testbed.Front))
	}
	return err
}

// handToCPU makes the balancer's network stack run on one CPU.
func handToCPU(s *testbed.Bed, cpu int) error {
	return errors.Join(testbed.SpreadTo(s.Balancer, testbed.Front, cpu), testbed.SpreadTo(s.Balancer, testbed.Back, cpu))
}
