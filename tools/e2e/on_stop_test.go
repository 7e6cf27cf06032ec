package e2e_test

import (
	"context"
	"errors"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOnStopDrop: with on_stop = "drop" the XDP programs outlive a planned end. The kernel, which
// has the VIP, refuses no client. The next daemon takes them over; release gives the kernel the
// packets, and leaves a daemon that runs alone.
func TestOnStopDrop(t *testing.T) {
	b := bed(t)
	files := t.TempDir()
	inside := func(args ...string) { // the balancer has mounts of its own
		p, err := b.Balancer.Start(exec.Command(args[0], args[1:]...))
		must(t, err)
		if err := p.Wait(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, p.Output())
		}
	}
	inside("mount", "-t", "bpf", "bpf", files)
	t.Cleanup(func() { inside("umount", files) })
	cfg := config(t, nat4)
	cfg.Engine.OnStop, cfg.Engine.BPFDir = "drop", filepath.Join(files, "sluice")
	dial := func() error {
		brief, cancel := context.WithTimeout(ctxOf(t), 200*time.Millisecond)
		defer cancel()
		c, err := b.Client.Dial(brief, "tcp", web(nat4))
		if err == nil {
			c.Close()
		}
		return err
	}
	for range 2 {
		d, err := b.Start(ctxOf(t), cfg)
		must(t, err)
		if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
			t.Errorf("3 requests went %s: %v", &s, s.Errors)
		}
		loaded, err := b.XDP()
		must(t, err)
		r, err := b.Run(ctxOf(t), "release", "--config", d.Config)
		if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "stop it first") {
			t.Errorf("release beside a daemon: %+v, %v", r, err)
		}
		must(t, d.Stop())
		if left, err := b.XDP(); err != nil || !maps.Equal(left, loaded) {
			t.Errorf("programs %v, were %v: %v", left, loaded, err)
		}
		if err := dial(); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a connection without a daemon: %v", err)
		}
		if r, err := b.Run(ctxOf(t), "doctor", "--config", d.Config); err != nil || !strings.Contains(r.Stdout, "sluice release") {
			t.Errorf("doctor does not name it: %+v, %v", r, err)
		}
		if t.Failed() {
			t.Log(d.Process.Output())
		}
	}
	d, err := b.Start(ctxOf(t), cfg)
	must(t, err)
	must(t, d.Stop())
	loaded, err := b.XDP()
	must(t, err)
	r, err := b.Run(ctxOf(t), "release", "--config", d.Config)
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout, "eth0: released") {
		t.Errorf("release: %+v, %v", r, err)
	}
	must(t, b.AwaitNoXDP(ctxOf(t), loaded))
	poll(t, "the kernel refuses the client", func() error {
		if err := dial(); !errors.Is(err, syscall.ECONNREFUSED) {
			return errors.Join(errors.New("it does not"), err)
		}
		return nil
	})
}
