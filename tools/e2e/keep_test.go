package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/flood"
	"sluice/tools/e2e/testbed"
)

// TestKeep: connections of all modes are busy. The balancer's kernel has the VIP. The daemon is
// killed, and its next starts fail, because its file is away. Meanwhile the XDP program of the dead
// process stays: the kernel answers no client with RST, and a connection that is tried waits until
// the daemon runs again. All connections go on. A planned end detaches everything.
func TestKeep(t *testing.T) {
	b := bed(t)
	cfg := config(t, testbed.Paths...)
	d, err := b.Keep(ctxOf(t), cfg)
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
		t.Fatalf("3 requests went %s: %v", &s, s.Errors)
	}

	held := holdAll(t, b, testbed.Paths, 2)
	moves(t, held...)

	before, err := b.XDP()
	must(t, err)
	must(t, os.Rename(d.Config, d.Config+".away"))
	mark := d.Process.Mark()
	child, err := d.Child()
	must(t, err)
	must(t, child.Kill())
	_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=keep_restart")
	must(t, err)
	if during, err := b.XDP(); err != nil || !maps.Equal(during, before) {
		t.Errorf("programs %v, were %v: %v", during, before, err)
	}
	brief, cancel := context.WithTimeout(ctxOf(t), 100*time.Millisecond)
	defer cancel()
	if _, err := b.Client.Dial(brief, "tcp", web(nat4)); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a connection without a daemon: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		c, err := b.Client.Dial(ctxOf(t), "tcp", web(nat4))
		if err == nil {
			c.Close()
		}
		waiting <- err
	}()
	must(t, os.Rename(d.Config+".away", d.Config))
	_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
	must(t, err)
	if err := <-waiting; err != nil {
		t.Error("the connection that waited:", err)
	}
	if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
		t.Errorf("3 requests after it went %s: %v", &s, s.Errors)
	}

	moves(t, held...)
}

// TestKeepStopped: a daemon that is stopped by a signal is killed and replaced, and its connections
// go on.
func TestKeepStopped(t *testing.T) {
	b := bed(t)
	d, err := b.Keep(ctxOf(t), config(t, nat4))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := hold(t, b, nat4.URL(), 3)
	mark := d.Process.Mark()
	child, err := d.Child()
	must(t, err)
	must(t, child.Signal(syscall.SIGSTOP))
	_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "stopped_by_signal=true")
	must(t, err)
	_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
	must(t, err)
	if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
		t.Errorf("3 requests after SIGSTOP went %s: %v", &s, s.Errors)
	}
	moves(t, held...)
}

// TestKilledAgainAndAgain: connections of all modes outlive the death of one process after another,
// each at another moment, while new connections are opened. The sockets go on, with what has waited
// on them.
func TestKilledAgainAndAgain(t *testing.T) {
	b := bed(t)
	d, err := b.Keep(ctxOf(t), config(t, testbed.Paths...))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := holdAll(t, b, testbed.Paths, 2)
	datagrams, err := b.Stream(ctxOf(t), nat4.UDP(), time.Millisecond)
	must(t, err)
	opening, stop := context.WithCancel(context.Background())
	opened := make(chan int, 1)
	go func() {
		n := 0
		for ; opening.Err() == nil; n++ {
			s := b.Ask(opening, testbed.Paths[n%len(testbed.Paths)].URL(), 1)
			if len(s.Errors) > 0 && opening.Err() == nil {
				t.Errorf("a new connection: %v", s.Errors)
			}
		}
		opened <- n
	}()
	for round := range 4 { // after five the keeper gives up
		moves(t, held...)
		time.Sleep(time.Duration(round*7%50) * time.Millisecond) // not to wait: the moment of death
		mark := d.Process.Mark()
		child, err := d.Child()
		must(t, err)
		must(t, child.Kill())
		for _, event := range []string{"event=takeover_sockets ", "event=takeover "} {
			line, err := d.Process.WaitLineAfter(ctxOf(t), mark, event)
			must(t, err)
			t.Log(line)
		}
		_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
		must(t, err)
		status, err := d.API.Status(ctxOf(t))
		must(t, err)
		if took := status.Takeover; took == nil || took.Queues != 2 || took.Connections < len(held) {
			t.Errorf("status says that %+v was taken over, want both sockets and %d connections", took, len(held))
		}
	}
	moves(t, held...)
	stop()
	t.Logf("%d new connections meanwhile", <-opened)
	counts := datagrams.End()
	t.Logf("of %d datagrams %d were not answered; the longest time between two answers is %v",
		counts.Sent, counts.Sent-counts.Answered, counts.Longest)
}

// TestKilledBeforeOthers: each process after a death has another number of workers, or other
// queues. It takes over the sockets that it needs, and all connections.
func TestKilledBeforeOthers(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-others", Queues: 2})
	cfg := config(t, testbed.AllPaths...)
	cfg.Engine.Cores = cores(t, 2)
	d, err := b.Keep(ctxOf(t), cfg)
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := holdAll(t, b, testbed.AllPaths, 4)
	datagrams, err := b.Stream(ctxOf(t), nat4.UDP(), time.Millisecond)
	must(t, err)
	for _, next := range []struct {
		workers int
		queues  []int // of the first port
		took    int   // sockets
	}{{1, nil, 4}, {2, []int{0}, 3}, {2, nil, 3}} {
		if cfg.Ports[0].Queues == nil { // else packets that arrive at the other one are dropped
			moves(t, held...)
		}
		cfg.Engine.Cores, cfg.Ports[0].Queues = cores(t, next.workers), next.queues
		must(t, d.Write(cfg))
		mark := d.Process.Mark()
		child, err := d.Child()
		must(t, err)
		must(t, child.Kill())
		_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
		must(t, err)
		status, err := d.API.Status(ctxOf(t))
		must(t, err)
		if took := status.Takeover; took == nil || took.Queues != next.took || took.Connections < len(held) || took.Lost != 0 {
			t.Errorf("%+v: status says that %+v was taken over, want %d sockets and %d connections", next, took, next.took, len(held))
		}
	}
	moves(t, held...)
	counts := datagrams.End()
	t.Logf("of %d datagrams %d were not answered; the longest time between two answers is %v",
		counts.Sent, counts.Sent-counts.Answered, counts.Longest)
}

// TestKeeperIsKilled: the daemon goes on without the keeper, and stops as usual.
func TestKeeperIsKilled(t *testing.T) {
	b := bed(t)
	d, err := b.Keep(ctxOf(t), config(t, nat4))
	must(t, err)
	child, err := d.Child()
	must(t, err)
	held := hold(t, b, nat4.URL(), 2)
	must(t, d.Process.Kill())
	moves(t, held...)
	if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
		t.Errorf("3 requests went %s: %v", &s, s.Errors)
	}
	loaded, err := b.XDP()
	must(t, err)
	must(t, child.Signal(syscall.SIGTERM))
	must(t, errors.Join(b.AwaitNoXDP(ctxOf(t), loaded), b.EndConnections()))
}

// TestCountersOutliveKills: the daemon is killed again and again while packets flow. After each
// death the counters go on, and add up to the packet with what was lost: what the XDP program gave
// to the sockets, which it counts in a map of its own, is what was received, and each packet
// received is under one term.
func TestCountersOutliveKills(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	d, err := b.Keep(ctxOf(t), cfg)
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	at := flood.Cable{Host: b.Router, Ifname: "front", Peer: b.Balancer, PeerIf: testbed.Front}
	target := netip.AddrPortFrom(nat4.Address(), testbed.WebPort)
	var before api.Stats
	for round := range 4 { // after five the keeper gives up
		f, err := flood.Start(at, flood.Traffic{Target: target, Rate: 20000})
		must(t, err)
		poll(t, "the flood", func() error {
			s, err := d.API.Stats(ctxOf(t))
			if err == nil && s.Rx < before.Rx+2000 {
				return fmt.Errorf("%d packets, %d before", s.Rx, before.Rx)
			}
			return err
		})
		time.Sleep(time.Duration(round*7%20) * time.Millisecond) // not to wait: the moment of death
		mark := d.Process.Mark()
		child, err := d.Child()
		must(t, err)
		must(t, child.Kill())
		_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
		must(t, err)
		must(t, f.Stop())
		s, err := d.Quiet(ctxOf(t))
		must(t, err)
		given, refused := uint64(0), uint64(0)
		for _, p := range s.Ports {
			given += p.XDP.Redirected
			for _, q := range p.Queues {
				refused += q.KernelRxDropped + q.KernelRxInvalid + q.KernelRxRingFull
			}
		}
		t.Logf("received %d, lost %d, given to the sockets %d, of which %d found no room", s.Rx, s.LostInCrash, given, refused)
		if s.Rx < before.Rx+2000 || s.Forwarded < before.Forwarded || s.LostInCrash < before.LostInCrash {
			t.Errorf("counters went back: received %d, forwarded %d, lost %d, were %d, %d, %d",
				s.Rx, s.Forwarded, s.LostInCrash, before.Rx, before.Forwarded, before.LostInCrash)
		}
		if s.Rx+refused != given {
			t.Errorf("%d packets were received and %d refused, but %d given to the sockets", s.Rx, refused, given)
		}
		before = s
	}
}
