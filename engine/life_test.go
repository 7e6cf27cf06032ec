package engine_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sluice/engine"
	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline"
	"sluice/tools/leaks"
)

// TestClose: twice is no mistake, and afterwards questions end with an error instead of hanging.
func TestClose(t *testing.T) {
	current := goleak.IgnoreCurrent()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	openAll(t, lab, 0, 20)
	lab.Close()
	lab.Close()
	if _, err := lab.Engine.Stats(t.Context()); err == nil {
		t.Error("stats of a closed engine")
	}
	if _, err := lab.Engine.Conns(t.Context(), api.ConnQuery{}); err == nil {
		t.Error("connections of a closed engine")
	}
	select {
	case <-lab.Engine.Done():
		t.Error("closing is no failure")
	default:
	}
	lab.Change(func(s *enginetest.Surroundings) { s.Forget("10.0.0.11") })
	if err := leaks.Find(current); err != nil {
		t.Error(err)
	}
}

// TestCloseInTheMiddle: of traffic and of questions.
func TestCloseInTheMiddle(t *testing.T) {
	t.Parallel()
	for range 10 {
		lab := enginetest.New(t, 2, 2)
		lab.Start(2, config(nat3()))
		var asking sync.WaitGroup
		for range 3 {
			asking.Go(func() {
				for {
					if _, err := lab.Engine.Stats(context.Background()); err != nil {
						return
					}
				}
			})
		}
		for n := range 200 {
			lab.Arrive(enginetest.Clients, opening(n).Frame())
		}
		lab.Close()
		asking.Wait()
	}
}

// TestStartAgain: many engines one after the other leave nothing behind (L04).
func TestStartAgain(t *testing.T) {
	slow(t)
	for range 20 {
		lab := enginetest.New(t, 1, 1)
		lab.Start(2, config(nat3()))
		one(t, lab.Send(enginetest.Clients, 0, opening(1).Frame()))
		lab.Close()
	}
}

// TestStartFails: with the reason, and with everything given back.
func TestStartFails(t *testing.T) {
	current := goleak.IgnoreCurrent()
	lab := enginetest.New(t, 1, 1)
	lab.RefuseSteering(errors.New("verifier says no"))
	err := lab.TryStart(1, config(nat3()))
	if err == nil || !strings.Contains(err.Error(), "verifier says no") {
		t.Errorf("error %v", err)
	}
	if !lab.Closed(enginetest.Clients) || !lab.Closed(enginetest.Backends) {
		t.Error("queues are still open")
	}
	if err := leaks.Find(current); err != nil {
		t.Error(err)
	}
}

// TestPanicEndsEngine: half a balancer would be worse than none. The error says where it was (F07).
func TestPanicEndsEngine(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	lab.Panic(enginetest.Clients, 1, "the sky is falling")
	err := lab.Crashed()
	if err == nil || !strings.Contains(err.Error(), "the sky is falling") || !strings.Contains(err.Error(), "worker 1") ||
		!strings.Contains(err.Error(), "receive") {
		t.Errorf("error %v", err)
	}
	if _, err := lab.Engine.Stats(t.Context()); err == nil {
		t.Error("a broken engine has stats")
	}
}

// TestDetached checks that a port is steered again when another process has detached its XDP
// program, and that an alarm tells of it, and of a failure to do so.
func TestDetached(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	await := func(text string) {
		t.Helper()
		lab.Await("an alarm with "+text, func() bool {
			alarms, err := lab.Engine.Alarms(t.Context())
			return err == nil && len(alarms) == 1 && alarms[0].Kind == api.AlarmDetached && strings.Contains(alarms[0].Text, text)
		})
	}
	lab.Detach(enginetest.Clients, nil)
	await("it was attached again")
	if testing.Short() {
		return // each step takes until the engine looks at the port again
	}
	lab.Detach(enginetest.Clients, errors.New("a program of others is there"))
	await("is out of service: another process has detached the XDP program, and it cannot be attached again: a program of others is there")
	lab.Detach(enginetest.Clients, nil)
	await("it was attached again")
}

// TestOptionsAreOptional: without a way to load there is no reload, and without a logger no panic.
func TestOptionsAreOptional(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	cfg, _, err := lab.Load()
	if err != nil {
		t.Fatal(err)
	}
	other := enginetest.New(t, 1, 1)
	e, err := engine.Start(t.Context(), cfg, engine.Options{Platform: other.Platform})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Reload(t.Context(), api.ReloadOptions{}); err == nil {
		t.Error("reloaded from nowhere")
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestMemoryRunsOut: a worker that can't be made takes those with it that were.
func TestMemoryRunsOut(t *testing.T) {
	open := func() int {
		t.Helper()
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	current, before := goleak.IgnoreCurrent(), open()
	lab, left := enginetest.New(t, 1, 1), 5*pipeline.TableBytes(4, 3, 3*8192)
	lab.MemoryLeft = &left // for the first worker's two tables and one more
	err := lab.TryStart(3, config(nat3()))
	if err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("error %v", err)
	}
	if now := open(); now != before {
		t.Errorf("%d files were open before, %d after", before, now)
	}
	if err := leaks.Find(current); err != nil {
		t.Error(err)
	}
}
