package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/backend"
)

const (
	steadyReloads = 200
	steadyRate    = 200 // connections per second
)

// TestSteadyReloads: 200 reloads in a row, each with a change, under 200 connections per second: no
// connection and no packet is lost.
func TestSteadyReloads(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4, dr4))
	held := hold(t, b, nat4.URL(), 6)
	held = append(held, hold(t, b, dr4.URL(), 3)...)
	ctx, stop := context.WithCancel(ctxOf(t))
	defer stop()
	type outcome struct {
		asked int
		err   error
	}
	traffic := make(chan outcome, 1)
	go func() {
		n, err := steady(ctx, b, []string{nat4.URL(), dr4.URL()})
		traffic <- outcome{n, err}
	}()
	cfgs := [2]testbed.Config{config(t, nat4, dr4), config(t, nat4, dr4)}
	cfgs[1].Services[0].Scheduler = "wlc"
	for i := range cfgs[1].Services[2].Backends {
		weight := 3
		cfgs[1].Services[2].Backends[i].Weight = &weight
	}
	for i := range steadyReloads {
		must(t, d.Write(cfgs[(i+1)%2]))
		result, err := d.API.Reload(ctxOf(t), api.ReloadOptions{})
		must(t, err)
		if len(result.Changes) == 0 {
			t.Fatal("a reload changed nothing: the test proves nothing")
		}
		// The pace of the traffic, not a wait for anything.
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	stop()
	got := <-traffic
	must(t, got.err)
	t.Logf("%d connections during %d reloads", got.asked, steadyReloads)
	if got.asked < steadyReloads {
		t.Errorf("only %d connections were made meanwhile", got.asked)
	}
	moves(t, held...)
	lost, err := drops(ctxOf(t), d)
	must(t, err)
	if len(lost) > 0 {
		t.Errorf("packets were dropped: %v", lost)
	}
}

// steady opens a new connection for each request, at a steady rate, until ctx ends. Every request
// must be answered.
func steady(ctx context.Context, b *testbed.Bed, urls []string) (asked int, err error) {
	results := make(chan error)
	pace := time.NewTicker(time.Second / steadyRate)
	defer pace.Stop()
	running := 0
	finish := func(result error) {
		running--
		err = errors.Join(err, result)
	}
	for ctx.Err() == nil {
		select {
		case <-pace.C:
			running++
			go func(url string) {
				each, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				defer cancel()
				client := b.Client.HTTPClient()
				defer client.CloseIdleConnections()
				_, err := backend.Get(each, client, url)
				results <- err
			}(urls[asked%len(urls)])
			asked++
		case result := <-results:
			finish(result)
		case <-ctx.Done():
		}
	}
	for running > 0 {
		finish(<-results)
	}
	return asked, err
}

// TestApplyGoesBack: without a confirm the former configuration is restored, with every connection.
func TestApplyGoesBack(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	cfg.Engine.StateDir = t.TempDir()
	d := start(t, b, cfg)
	held := hold(t, b, nat4.URL(), 3)
	file := filepath.Join(t.TempDir(), "new.toml")
	more := config(t, nat4, dr4)
	more.API.Socket, more.Engine.StateDir = d.Socket, cfg.Engine.StateDir
	must(t, os.WriteFile(file, []byte(more.String()), 0o600))
	before, err := os.ReadFile(d.Config)
	must(t, err)

	text, err := d.Verb(ctxOf(t), "plan", "--config", file)
	must(t, err)
	if !strings.Contains(text, "added service web-dr4") {
		t.Error(text)
	}
	text, err = d.Verb(ctxOf(t), "apply", file, "--confirm", "1s")
	must(t, err)
	if !strings.Contains(text, "sluice confirm") {
		t.Error(text)
	}
	wantSpread(t, b.Ask(ctxOf(t), dr4.URL(), 6), [3]int{2, 2, 2})
	poll(t, "the former configuration comes back", func() error {
		services, err := d.API.List(ctxOf(t))
		if err == nil && len(services) != 2 {
			err = fmt.Errorf("%d services run", len(services))
		}
		return err
	})
	r, err := b.Run(ctxOf(t), "status", "--socket", d.Socket)
	must(t, err)
	if r.Code != 1 || !strings.Contains(r.Stderr, "was not confirmed in time") {
		t.Errorf("status: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	after, err := os.ReadFile(d.Config)
	must(t, err)
	if string(after) != string(before) {
		t.Error("the daemon's file has changed")
	}
	_, err = d.Verb(ctxOf(t), "apply", file)
	must(t, err)
	wantSpread(t, b.Ask(ctxOf(t), dr4.URL(), 6), [3]int{2, 2, 2})
	_, err = d.Verb(ctxOf(t), "status")
	must(t, err)
	_, err = d.Verb(ctxOf(t), "rollback")
	must(t, err)
	if after, err := os.ReadFile(d.Config); err != nil || string(after) != string(before) {
		t.Error("the rollback has not brought the file back:", err)
	}
	moves(t, held...)
}

// TestDrainVerb: drain shows how many connections are left and ends them at the deadline: clients
// of that backend receive RST, others continue. The drain holds over a restart until it is cleared.
func TestDrainVerb(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	cfg.Engine.StateDir = t.TempDir()
	d := start(t, b, cfg)
	held := hold(t, b, nat4.URL(), 6)
	r, err := b.Run(ctxOf(t), "drain", "web-nat4", "10.2.0.11", "--deadline", "500ms", "--socket", d.Socket)
	must(t, err)
	if r.Code != 0 || !strings.Contains(r.Stdout, "2 of 2 live connections left") || !strings.Contains(r.Stdout, "are left") {
		t.Errorf("drain: exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, h := range held {
		if h.Backend != "b1" {
			moves(t, h)
			continue
		}
		select {
		case <-h.Ended():
		case <-ctxOf(t).Done():
			t.Error("a connection of the drained backend lives on")
		}
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{0, 3, 3})
	must(t, d.Stop())
	must(t, d.Restart(ctxOf(t)))
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{0, 3, 3})
	text, err := d.Verb(ctxOf(t), "overrides", "clear", "--all")
	must(t, err)
	if !strings.Contains(text, "10.2.0.11:8080") {
		t.Error(text)
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
}
