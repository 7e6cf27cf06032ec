package engine_test

import (
	"errors"
	"testing"

	"sluice/engine/enginetest"
)

// TestTxFull: what a TX ring has no room for is dropped by name; what it took is sent when the
// driver goes on.
func TestTxFull(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.Stall(enginetest.Backends, true)
	const sent, room = 400, 256
	for n := range sent {
		lab.Inject(enginetest.Clients, 0, opening(n).Frame())
	}
	lab.Quiet()
	s := lab.Stats()
	dropped(t, s, "tx_full", sent-room)
	if s.Forwarded != room || s.Ports[enginetest.Backends].Queues[0].TxRingFull != sent-room || s.Frames.Tx != room {
		t.Errorf("forwarded %d, queue %+v, frames %+v", s.Forwarded, s.Ports[enginetest.Backends].Queues[0], s.Frames)
	}
	lab.Stall(enginetest.Backends, false)
	if out := lab.Collect(); len(out) != room {
		t.Errorf("%d frames came out at last, want %d", len(out), room)
	}
	one(t, lab.Send(enginetest.Clients, 0, opening(0).Flags(ack).Frame()))
}

// TestKickFails: frames that the driver refuses to send stay where they are and go out later.
func TestKickFails(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.FailKicks(enginetest.Backends, errors.New("device is not ready"))
	for n := range 10 {
		lab.Inject(enginetest.Clients, 0, opening(n).Frame())
	}
	lab.Quiet()
	if s := lab.Stats(); s.Frames.Tx != 10 || s.Forwarded != 10 {
		t.Errorf("%+v", s)
	}
	lab.FailKicks(enginetest.Backends, nil)
	lab.Await("frames to go out", func() bool { return lab.Stats().Frames.Tx == 0 })
	if out := lab.Collect(); len(out) != 10 {
		t.Errorf("%d of 10 frames came out", len(out))
	}
}

// handOverSlots is the capacity of the ring between two workers.
const handOverSlots = 1024

// TestHandOverFull: what another worker doesn't get round to is dropped by name, and its own flows
// go on (F11).
func TestHandOverFull(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.FramesPerQueue = 4096
	lab.Start(2, config(nat3()))
	thaw := lab.Freeze(enginetest.Clients, 1)
	const sent = 3000
	for n := range sent {
		lab.Inject(enginetest.Clients, 0, opening(n).Frame())
	}
	lab.Await("the other worker to go through all of them", func() bool { return lab.AllReceived(enginetest.Clients, 0) })
	if len(lab.Collect()) == 0 {
		t.Error("none of the other worker's own flows went on")
	}
	thaw()
	lab.Quiet()
	s := lab.Stats()
	lost := s.Drops["hand_over_full"]
	dropped(t, s, "hand_over_full", lost)
	handed := s.Workers[1].HandOversIn
	if handed != handOverSlots || lost == 0 || s.Forwarded != sent-lost {
		t.Errorf("of %d frames %d went over, want %d; %d were lost; %d were forwarded; %+v", sent, handed, handOverSlots, lost, s.Forwarded, s.Workers)
	}
}

// TestFramesRunOut: while another worker sits on all frames nothing can be received; afterwards
// everything can again, without anybody's help (F12).
func TestFramesRunOut(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	lab.RingSize, lab.FramesPerQueue = 64, 128
	lab.Start(2, config(nat3()))
	thaw := lab.Freeze(enginetest.Clients, 1)
	n, refused := 0, 0
	lab.Await("all frames to be held", func() bool {
		for range 64 {
			if lab.Offer(enginetest.Clients, 0, opening(n).Frame()) {
				refused = 0
			} else {
				refused++
			}
			n++
		}
		return refused >= 20*64
	})
	thaw()
	lab.Quiet()
	lab.Collect()
	for n := range 500 {
		lab.Inject(enginetest.Clients, 0, opening(n).Flags(ack).Frame())
	}
	lab.Quiet()
	if empty := lab.Stats().Ports[enginetest.Clients].Queues[0].KernelFillRingEmpty; empty == 0 {
		t.Error("no frame was counted for which there was no chunk")
	}
}

// TestRelayFull: a worker without a queue on the egress port sends by way of one that has; what
// that one doesn't get round to is dropped by name and taken from what was forwarded.
func TestRelayFull(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 3, 1)
	lab.FramesPerQueue = 8192
	lab.Start(3, config(nat3()))
	thaw := lab.Freeze(enginetest.Backends, 0) // worker 0, which alone has a queue there
	const sent = 6000
	for n := range sent {
		lab.Inject(enginetest.Clients, 1+n%2, opening(n).Frame())
	}
	lab.Await("frames to be lost", func() bool {
		return lab.AllReceived(enginetest.Clients, 1) && lab.AllReceived(enginetest.Clients, 2)
	})
	thaw()
	lab.Quiet()
	s := lab.Stats()
	lost := s.Drops["hand_over_full"]
	dropped(t, s, "hand_over_full", lost)
	if out := uint64(len(lab.Collect())); lost == 0 || out != s.Forwarded || out+lost != sent {
		t.Errorf("of %d frames %d were lost, %d forwarded, %d came out", sent, lost, s.Forwarded, out)
	}
}
