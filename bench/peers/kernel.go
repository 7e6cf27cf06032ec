package peers

import (
	"context"
	"errors"

	"sluice/bench/site"
)

// Forward is the kernel's IP forwarding: a route and nothing else.
type Forward struct {
	CPU int // does the work
}

// Start implements Peer.
func (f *Forward) Start(_ context.Context, s *site.Site) error {
	return errors.Join(
		forwarding(s, f.CPU),
		s.Balancer.Route(site.VIP.String()+"/32", site.Backend(0).String()),
	)
}

// forwarding turns it on. The generator's frames reach a veth only if it polls, for which it has an XDP program that
// passes everything; the network stack behind it is on the given CPU.
func forwarding(s *site.Site, cpu int) error {
	return errors.Join(
		s.Balancer.Sysctl("net.ipv4.ip_forward", "1"),
		s.Balancer.Sysctl("net.ipv4.conf.all.send_redirects", "0"),
		s.Balancer.PassXDP(site.Front),
		site.SpreadTo(s.Balancer, site.Front, cpu),
		site.SpreadTo(s.Balancer, site.Back, cpu),
	)
}

// Counters implements Peer.
func (f *Forward) Counters(context.Context) (Counters, error) { return Counters{InKernel: true}, nil }

// Stop implements Peer.
func (f *Forward) Stop() error { return nil }
