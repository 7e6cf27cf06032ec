package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestTakeoverOfCounters: the counters go on in the next process, in total and by worker, service,
// backend, reason and queue, though services have other numbers and there are other workers. What a
// removed backend had stays in its service's sum.
func TestTakeoverOfCounters(t *testing.T) {
	t.Parallel()
	for _, workers := range [][2]int{{1, 1}, {2, 2}, {2, 1}, {1, 3}} {
		t.Run(fmt.Sprintf("%d to %d workers", workers[0], workers[1]), func(t *testing.T) {
			services, all := survivors(10)
			before := enginetest.New(t, workers[0], workers[0])
			before.Start(workers[0], config(services...))
			for i, s := range all {
				s.open(t, before, services[i/10].mode)
			}
			before.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.1:5", at(vip4, 8000)).Flags(ack).Frame())
			was, had := before.Stats(), list(t, before)
			last := &services[len(services)-1]
			last.backends = last.backends[:2]

			after := enginetest.New(t, workers[1], workers[1])
			before.Close()
			after.Inherit(before.Platform)
			slices.Reverse(services)
			after.Start(workers[1], config(services...))
			for round := range 2 { // a second process takes over from the first
				is, has := after.Stats(), list(t, after)
				slices.Reverse(has)
				if is.Rx != was.Rx || is.Forwarded != was.Forwarded || is.Replied != was.Replied || is.LostInCrash != 0 || !maps.Equal(is.Drops, was.Drops) {
					t.Errorf("round %d: %+v, was %+v", round, is, was)
				}
				var queues [2]uint64
				for i, s := range []api.Stats{was, is} {
					for _, p := range s.Ports {
						for _, q := range p.Queues {
							queues[i] += q.Rx + q.Tx
						}
					}
				}
				if workers[0] <= workers[1] && queues[0] != queues[1] {
					t.Errorf("round %d: the queues had %d packets, and have %d", round, queues[0], queues[1])
				}
				for i := range had {
					h, n := had[i], has[i]
					if h.Packets != n.Packets || h.PacketsOut != n.PacketsOut || h.Bytes != n.Bytes || h.Connections != n.Connections {
						t.Errorf("round %d: service %s has %d packets, %d connections, had %d, %d", round, h.Name, n.Packets, n.Connections, h.Packets, h.Connections)
					}
					for j, b := range n.Backends {
						if was := h.Backends[j]; b.Packets != was.Packets || b.Connections != was.Connections {
							t.Errorf("round %d: backend %s of %s has %d packets, had %d", round, b.Endpoint(), h.Name, b.Packets, was.Packets)
						}
					}
				}
				next := enginetest.New(t, workers[1], workers[1])
				after.Close()
				next.Inherit(after.Platform)
				after = next
				after.Start(workers[1], config(services...))
			}
		})
	}
}
