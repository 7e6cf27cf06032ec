package peers

import (
	"context"

	"sluice/bench/testbed"
)

// None is no balancer at all.
type None struct{}

// Start implements Peer.
func (None) Start(context.Context, *testbed.Bed) error { return nil }

// Counters implements Peer.
func (None) Counters(context.Context) (Counters, error) { return Counters{}, nil }

// Stop implements Peer.
func (None) Stop() error { return nil }
