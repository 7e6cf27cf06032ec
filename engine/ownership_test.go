package engine_test

import (
	"bytes"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestPersistenceTurnedOnTwoWorkers: turning persistence on (2 workers): connections keep their
// backend.
func TestPersistenceTurnedOnTwoWorkers(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	before := openAll(t, lab, 0, 90)
	sticky := nat3()
	sticky.extra = `persistence = "5m"`
	if _, err := lab.Reload(config(sticky)); err != nil {
		t.Fatal(err)
	}
	now := goOn(t, lab, 0, 90)
	n := 0
	for k, v := range before {
		if now[k] != v {
			n++
		}
	}
	s := lab.Stats()
	if n != 0 || s.Replied != 0 {
		t.Errorf("%d of 90 established connections lost their backend; answered with RST: %d, drops %v", n, s.Replied, nonzero(s.Drops))
	}
}

func nonzero(m map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, v := range m {
		if v != 0 {
			out[k] = v
		}
	}
	return out
}

// TestNeighbourBecomesPersistent: a neighbour service that shares a backend becomes persistent.
func TestNeighbourBecomesPersistent(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	other := svc{name: "other", vip: "198.51.100.11", backends: []string{"10.0.0.11:8080"}}
	lab.Start(2, config(nat3(), other))
	openAll(t, lab, 0, 90)
	other.extra = `persistence = "5m"`
	if _, err := lab.Reload(config(nat3(), other)); err != nil {
		t.Fatal(err)
	}
	goOn(t, lab, 0, 90)
	if s := lab.Stats(); s.Replied != 0 {
		t.Errorf("%d of 90 connections of the untouched service were answered with RST", s.Replied)
	}
}

// TestDRServiceGetsNATBackend: a dr service gets one nat backend (2 workers, queue each).
func TestDRServiceGetsNATBackend(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	s := svc{mode: "dr", backends: []string{"10.0.0.11", "10.0.0.12"}}
	lab.Start(2, config(s))
	for n := range 90 {
		lab.Inject(enginetest.Clients, n%2, opening(n).Frame())
	}
	lab.Quiet()
	lab.Collect()
	if _, err := lab.Reload(config(s) + "[[service.backend]]\naddress = \"10.0.0.13\"\nmode = \"nat\"\n"); err != nil {
		t.Fatal(err)
	}
	for n := range 90 {
		lab.Inject(enginetest.Clients, n%2, opening(n).Flags(ack).Frame())
	}
	lab.Quiet()
	if s := lab.Stats(); s.Replied != 0 {
		t.Errorf("%d of 90 dr connections were answered with RST", s.Replied)
	}
}

// TestModeChange: a backend's mode changes while connections exist.
func TestModeChange(t *testing.T) {
	t.Parallel()
	modes := []string{"nat", "fullnat", "tun", "dr"}
	for _, from := range modes {
		for _, to := range modes {
			if from == to {
				continue
			}
			t.Run(from+" to "+to, func(t *testing.T) {
				mk := func(mode string) string {
					s := svc{mode: mode, backends: []string{"10.0.0.11"}}
					if mode == "fullnat" {
						s.extra = `source = ["10.0.0.2"]`
					}
					return config(s)
				}
				lab := enginetest.New(t, 1, 1)
				lab.Start(1, mk(from))
				a := one(t, lab.Send(enginetest.Clients, 0, opening(1).Frame()))
				if _, err := lab.Reload(mk(to)); err != nil {
					t.Fatal(err)
				}
				bs := lab.Send(enginetest.Clients, 0, opening(1).Flags(ack).Frame())
				if len(bs) != 1 {
					t.Fatalf("sent %d; drops %v", len(bs), nonzero(lab.Stats().Drops))
				}
				// Compare IP addresses, protocol and ports of the two.
				x, y := a.Frame, bs[0].Frame
				if x[23] != y[23] || !bytes.Equal(x[26:38], y[26:38]) {
					t.Errorf("proto/src/dst/ports before %v, after %v", x[23:38], y[23:38])
				}
			})
		}
	}
}

// TestTupleTakenByDeadConnection: a client port that is in TIME_WAIT/CLOSE with one service is used
// with another that has the same backend.
func TestTupleTakenByDeadConnection(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}},
		svc{name: "b", vip: "198.51.100.11", backends: []string{"10.0.0.11:8080"}}))
	lab.Send(enginetest.Clients, 0, opening(1).Frame(), opening(1).Flags(rst).Frame())
	lab.Send(enginetest.Backends, 0, packettest.TCP("10.0.0.11:8080", client(1)).Flags(rst|ack).Frame())
	other := packettest.TCP(client(1), "198.51.100.11:80").Flags(syn).Payload(nil)
	out := lab.Send(enginetest.Clients, 0, other.Frame())
	if len(out) != 1 {
		t.Errorf("SYN dropped: %v, conns %+v", nonzero(lab.Stats().Drops), conns(t, lab, api.ConnQuery{}))
	}
}

// TestHandedOverStarvesOwnQueue checks that frames handed over do not starve the worker's own
// queue: a worker with a full hand-over ring receives from its own queue within a few batches.
func TestHandedOverStarvesOwnQueue(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.FramesPerQueue = 4096
	lab.Start(2, config(nat3()))
	// Find clients with flows that worker 1 owns: open many flows through queue 0.
	for n := range 2000 {
		lab.Inject(enginetest.Clients, 0, opening(n).Frame())
		if n%100 == 0 {
			lab.Quiet()
			lab.Collect()
		}
	}
	lab.Quiet()
	lab.Collect()
	owner := map[string]int{}
	for _, c := range conns(t, lab, api.ConnQuery{}) {
		owner[c.Client] = c.Worker
	}
	var ones []int
	for n := range 2000 {
		if owner[client(n)] == 1 {
			ones = append(ones, n)
		}
	}
	thaw := lab.Freeze(enginetest.Clients, 1)
	// 900 frames for worker 1 wait on the ring from worker 0, then 5 arrive at worker 1's own
	// queue.
	for i := range 900 {
		lab.Inject(enginetest.Clients, 0, opening(ones[10+i%(len(ones)-10)]).Flags(ack).TTL(100).Frame())
	}
	lab.Await("worker 0 to hand over", func() bool { return lab.AllReceived(enginetest.Clients, 0) })
	for i := range 5 {
		lab.Inject(enginetest.Clients, 1, opening(ones[i]).Flags(ack).TTL(50).Frame())
	}
	thaw()
	lab.Quiet()
	before := 0
	for _, s := range lab.Collect() {
		if s.Port != enginetest.Backends || s.Queue != 1 {
			continue
		}
		if s.Frame[22] == 49 {
			break
		}
		before++
	}
	if before > 256 {
		t.Errorf("%d handed-over frames went before the first of the worker's own queue (batch 64)", before)
	}
}
