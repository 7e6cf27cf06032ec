package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/pause"
)

// kind is a kind of event.
type kind struct {
	name, usage string
	times       int           // by default
	gap         time.Duration // that is allowed
	// do makes the event, and returns when the next daemon is ready.
	do func(ctx context.Context, r *run) error
}

// stuckAfter is after how long the testbed's keeper kills a daemon that gives no sign of life. A
// sign may have come right before the event.
const stuckAfter = 2 * time.Second

// restartTime is what is allowed from the death of a daemon until packets flow again.
const restartTime = 500 * time.Millisecond

// upgradeTime is what is allowed from the moment that the workers of one daemon stop until those of
// the next run.
const upgradeTime = 100 * time.Millisecond

var kinds = []kind{
	{name: "kill", usage: "the daemon is killed (SIGKILL)", times: 20, gap: restartTime, do: func(ctx context.Context, r *run) error {
		return r.signal(ctx, syscall.SIGKILL)
	}},
	{name: "stopped", usage: "the daemon is stopped (SIGSTOP), and killed by its keeper", gap: stuckAfter + restartTime, do: func(ctx context.Context, r *run) error {
		return r.signal(ctx, syscall.SIGSTOP)
	}},
	{name: "upgrade", usage: "another process takes the daemon's place (sluice upgrade)", gap: upgradeTime, do: func(ctx context.Context, r *run) error {
		_, err := r.daemon.Upgrade(ctx, r.Sluice)
		return err
	}},
}

// signal sends the daemon a signal that ends it, and waits until the next one is ready.
func (r *run) signal(ctx context.Context, s syscall.Signal) error {
	child, err := r.daemon.Child()
	if err != nil {
		return err
	}
	mark := r.daemon.Process.Mark()
	if err := child.Signal(s); err != nil {
		return err
	}
	_, err = r.daemon.Process.WaitLineAfter(ctx, mark, "event=ready")
	return err
}

// eventTime bounds an event.
const eventTime = time.Minute

// settleTime is how long after the next daemon is ready the traffic of an event is counted.
const settleTime = 3 * time.Second

// event makes an event and prints what came of it.
func (r *run) event(ctx context.Context, n int, k kind) error {
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	drops, err := r.drops(ctx)
	if err != nil {
		return err
	}
	before := r.counts()
	at := time.Now()
	if err := k.do(ctx, r); err != nil {
		return fmt.Errorf("event %d, %s: %w", n, k.name, err)
	}
	ready := time.Since(at)
	status, err := r.daemon.API.Status(ctx)
	if err != nil {
		return fmt.Errorf("event %d, %s: %w", n, k.name, err)
	}
	if err := pause.For(ctx, settleTime); err != nil {
		return err
	}
	after := r.counts()
	r.gaps[k.name] = max(r.gaps[k.name], after.Longest)
	taken := api.Takeover{Error: "nothing was taken over"}
	if status.Takeover != nil {
		taken = *status.Takeover
	}
	if taken.Error != "" {
		r.openedAgain++
	}
	r.lostConns += taken.Lost
	usage, err := r.usage()
	if err != nil {
		return err
	}
	dropped, err := r.drops(ctx)
	if err != nil {
		return err
	}
	if n == 1 {
		r.first = usage
	}
	r.last = usage
	fmt.Fprintf(r.Out, "%s %-8s ready %4d ms, gap %4d ms, %d datagrams lost; %d connections (%d lost), %d queues, away %.0f ms, %d received, %d discarded, %d sending, %d repaired; %d MiB, %d files%s\n",
		r.elapsed(), k.name, ready.Milliseconds(), after.Longest.Milliseconds(), lost(before, after),
		taken.Connections, taken.Lost, taken.Queues, taken.AwayS*1e3, taken.Received, discarded(taken), taken.Sending, taken.Repaired, usage.RSSKiB>>10, usage.Files, why(taken))
	fmt.Fprintf(r.Out, "%s   gaps of %v: %v\n", r.elapsed(), testbed.ModePaths, r.longest)
	for _, name := range slices.Sorted(maps.Keys(dropped)) {
		if n := dropped[name] - min(drops[name], dropped[name]); n > 0 {
			fmt.Fprintf(r.Out, "%s   %d more dropped: %s\n", r.elapsed(), n, name)
		}
	}
	return nil
}

// drops returns how many packets were dropped, by name of the reason.
func (r *run) drops(ctx context.Context) (map[string]uint64, error) {
	stats, err := r.daemon.API.Stats(ctx)
	if api.Answered(err) != nil {
		return nil, err
	}
	drops := stats.Drops
	for _, p := range stats.Ports {
		drops[p.Name+" no_worker"] = p.XDP.NoWorker
		drops[p.Name+" no_socket"] = p.XDP.NoSocket
		for _, q := range p.Queues {
			name := fmt.Sprintf("%s queue %d ", p.Name, q.Queue)
			drops[name+"kernel_rx_dropped"] = q.KernelRxDropped
			drops[name+"kernel_rx_ring_full"] = q.KernelRxRingFull
			drops[name+"kernel_fill_ring_empty"] = q.KernelFillRingEmpty
		}
	}
	return drops, nil
}

func discarded(t api.Takeover) int {
	if t.Discarded {
		return t.Received
	}
	return 0
}

func why(t api.Takeover) string {
	if t.Error == "" {
		return ""
	}
	return "; " + t.Error
}
