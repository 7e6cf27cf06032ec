package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"sluice/engine/enginetest"
)

// TestQueuesTakeTurns: many packets wait on the first queue of a worker, and one on each other. The
// worker has 64 in a batch: those of the other queues do not wait for all of the first.
func TestQueuesTakeTurns(t *testing.T) {
	const enough = 400 // a queue may wait until each other one has filled a batch
	lab := enginetest.New(t, 2, 2)
	lab.RingSize, lab.FramesPerQueue = 512, 2048
	lab.Start(1, config(nat3()))
	lab.Await("room for many packets", func() bool { return lab.Stats().Frames.Fill >= 4*enough })
	thaw := lab.Freeze(enginetest.Backends, 1) // the last queue of the turn
	many := 0
	for lab.Offer(enginetest.Clients, 0, opening(many).Frame()) {
		many++
	}
	if many < enough {
		t.Fatalf("%d packets are too few", many)
	}
	others := []struct{ port, queue, n int }{{enginetest.Clients, 1, many}, {enginetest.Backends, 0, many + 1}, {enginetest.Backends, 1, many + 2}}
	for _, o := range others {
		lab.Inject(o.port, o.queue, opening(o.n).Frame())
	}
	thaw()
	lab.Quiet()
	var clients []string // in the order in which their packets were forwarded
	for _, sent := range lab.Collect() {
		clients = append(clients, clientOf(t, sent.Frame))
	}
	for _, o := range others {
		at := slices.Index(clients, client(o.n))
		if at < 0 || at >= many {
			t.Errorf("the packet on queue %d of port %d was forwarded as number %d of %d", o.queue, o.port, at, len(clients))
		}
	}
}

// clientOf returns the source of a frame, as client does.
func clientOf(t *testing.T, frame []byte) string {
	m := parse(t, frame)
	return fmt.Sprintf("%v:%d", m.Src, m.SrcPort)
}
