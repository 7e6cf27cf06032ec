package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/enginetest"
)

// TestStuckWorker: one of two workers does not return from a call of the driver. Every request is
// answered with what is known, orders are in force for the other worker at once, status and log
// name the worker, and no counter goes back. When it goes on, all is as before, and says so.
func TestStuckWorker(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	var log logBuffer
	lab.Log = slog.New(slog.NewTextHandler(&log, nil))
	lab.Start(2, config(nat3()))
	for n := range 100 {
		lab.Inject(enginetest.Clients, n%2, opening(n).Frame())
	}
	lab.Quiet()
	before := lab.Stats()
	all, err := lab.Engine.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Workers[1].Rx == 0 || before.Workers[1].Connections == 0 {
		t.Fatalf("worker 1 has nothing to forget: %+v", before.Workers[1])
	}

	thaw := lab.Freeze(enginetest.Clients, 1)
	stats, err := lab.Engine.Stats(t.Context())
	silent(t, "stats", err, false)
	if stats.Rx != before.Rx || stats.Tables.ConnectionsV4 != before.Tables.ConnectionsV4 || stats.Workers[1].Rx != before.Workers[1].Rx {
		t.Errorf("counters went back: %+v, then %+v", before, stats)
	}
	services, err := lab.Engine.List(t.Context())
	silent(t, "list", err, false)
	if services[0].Packets != all[0].Packets || services[0].Connections != 100 {
		t.Errorf("the service has %d packets, then %d", all[0].Packets, services[0].Packets)
	}
	found, err := lab.Engine.Conns(t.Context(), api.ConnQuery{})
	silent(t, "conns", err, false)
	if uint64(len(found)) != before.Workers[0].Connections {
		t.Errorf("%d connections are listed, worker 0 has %d", len(found), before.Workers[0].Connections)
	}
	for _, c := range all[0].Backends {
		if b, err := lab.Engine.Backend(t.Context(), "web", c.Endpoint()); b.Packets != c.Packets {
			t.Errorf("backend %s has %d packets, then %d: %v", c.Endpoint(), c.Packets, b.Packets, err)
		}
	}
	for n := range 8 { // some of these are worker 1's
		q, _ := api.ParseTuple("tcp", client(n), vip4+":80")
		e, err := lab.Engine.Explain(t.Context(), q)
		silent(t, "explain", err, false)
		if e.OK || !strings.Contains(stepsOf(e), "worker 1 does not answer") {
			t.Errorf("explain: %+v", e)
		}
	}
	end, err := lab.Engine.Trace(t.Context(), api.TraceQuery{Duration: time.Millisecond}, func(api.TraceEvent) error { return nil })
	if err != nil || !slices.Equal(end.Unresponsive, []int{1}) {
		t.Errorf("trace: %+v, %v", end, err)
	}

	b, err := lab.Engine.SetWeight(t.Context(), "web", "10.0.0.11:8080", 0)
	silent(t, "weight", err, true)
	if b.Weight != 0 || b.State != api.StateDrain {
		t.Errorf("weight: %+v", b)
	}
	_, err = lab.Engine.Override(t.Context(), api.OverrideRequest{Service: "web", Backend: "10.0.0.12:8080", State: api.OverrideDrain})
	silent(t, "drain", err, true)
	_, err = lab.Engine.FreezeHealth(t.Context(), "web", true)
	silent(t, "freeze", err, true)
	lab.Inject(enginetest.Clients, 0, ofWorker(t, found, 0))
	lab.Await("worker 0 to forward", func() bool { return len(lab.Collect()) > 0 })
	result, err := lab.ReloadAs(config(nat3(), svc{name: "second", port: "81", backends: []string{"10.0.0.14:81"}}), api.ReloadOptions{})
	silent(t, "reload", err, true)
	if len(result.Changes) == 0 {
		t.Error("the reload has changed nothing")
	}
	if _, err := lab.Engine.Plan(t.Context(), api.File{}); err != nil {
		t.Error("plan:", err)
	}
	lab.Await("status to name worker 1", func() bool {
		status, err := lab.Engine.Status(t.Context())
		return err == nil && slices.ContainsFunc(status.Attention, func(s string) bool { return strings.Contains(s, "worker 1 (CPU") })
	})
	if alarms, _ := lab.Engine.Alarms(t.Context()); len(alarms) == 0 || alarms[0].Kind != api.AlarmStuck {
		t.Errorf("alarms: %+v", alarms)
	}
	if stats, _ := lab.Engine.Stats(t.Context()); stats.Workers[1].StuckS == 0 || stats.Workers[0].StuckS != 0 {
		t.Errorf("stats do not say which worker is stuck: %+v", stats.Workers)
	}
	lab.Await("the log to name worker 1", func() bool { return strings.Contains(log.String(), "event=worker_stuck worker=1 cpu=") })

	thaw()
	lab.Await("the alarm to end", func() bool {
		alarms, err := lab.Engine.Alarms(t.Context())
		return err == nil && !slices.ContainsFunc(alarms, func(a api.Alarm) bool { return a.Kind == api.AlarmStuck })
	})
	lab.Await("the log to say so", func() bool { return strings.Contains(log.String(), "event=worker_back worker=1") })
	if _, err := lab.Engine.ClearOverrides(t.Context(), "", ""); err != nil {
		t.Error("an order when it is over:", err)
	}
	if strings.Contains(log.String(), "worker=0") {
		t.Errorf("the other worker was blamed:\n%s", log.String())
	}
}

// TestOrderWithoutClient: a change that waits for another one is not made when its client has gone.
func TestOrderWithoutClient(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for what, change := range map[string]func() error{
		"weight": func() error { _, err := lab.Engine.SetWeight(gone, "web", "10.0.0.11:8080", 7); return err },
		"drain": func() error {
			_, err := lab.Engine.Override(gone, api.OverrideRequest{Service: "web", Backend: "10.0.0.11:8080", State: api.OverrideDrain})
			return err
		},
		"clear":    func() error { _, err := lab.Engine.ClearOverrides(gone, "", ""); return err },
		"freeze":   func() error { _, err := lab.Engine.FreezeHealth(gone, "", true); return err },
		"reload":   func() error { _, err := lab.Engine.Reload(gone, api.ReloadOptions{}); return err },
		"rollback": func() error { _, err := lab.Engine.Rollback(gone, 0); return err },
	} {
		if err := change(); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %v", what, err)
		}
	}
	services, err := lab.Engine.List(t.Context())
	if err != nil || services[0].Backends[0].Weight != 1 || services[0].HealthFrozen {
		t.Errorf("%+v, %v", services, err)
	}
	if status, err := lab.Engine.Status(t.Context()); err != nil || len(status.Attention) > 0 {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestCloseWithStuckWorker: an engine that is closed while a worker hangs says so, and does not
// wait for it.
func TestCloseWithStuckWorker(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	thaw := lab.Freeze(enginetest.Clients, 1)
	err := lab.Abandon()
	if err == nil || !strings.Contains(err.Error(), "do not respond: 1 (CPU") {
		t.Errorf("close: %v", err)
	}
	thaw()
}

// silent checks that an error says that worker 1 has not answered.
func silent(t *testing.T, what string, err error, applied bool) {
	t.Helper()
	var u *api.Unresponsive
	if !errors.As(err, &u) || !slices.Equal(u.Workers, []int{1}) || u.Applied != applied {
		t.Errorf("%s: %v", what, err)
	}
	if want := "applied, worker 1 has not taken it up"; applied && err != nil && err.Error() != want {
		t.Errorf("%s: %q, want %q", what, err, want)
	}
}

// ofWorker returns a packet of a connection that the worker owns.
func ofWorker(t *testing.T, found []api.Conn, worker int) []byte {
	t.Helper()
	for n := range 100 {
		if slices.ContainsFunc(found, func(c api.Conn) bool { return c.Client == client(n) && c.Worker == worker }) {
			return opening(n).Flags(ack).Frame()
		}
	}
	t.Fatalf("worker %d owns none of the connections", worker)
	return nil
}

func stepsOf(e api.Explanation) string {
	var text strings.Builder
	for _, s := range e.Steps {
		text.WriteString(s.Text + "\n")
	}
	return text.String()
}
