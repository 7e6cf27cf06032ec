package compare

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/testbed"
	"sluice/tools/netlab"
)

// snatPorts is how many ports fullnat has towards the only backend: the pool's address is one of
// the balancer's kernel, which keeps 28,232 for itself and 4,096 for health checks.
const snatPorts = 65536 - 1024 - 28_232 - 4096

// The rows of ports: the daemon and the backend are fresh; half of the ports were used within the
// last minute, so that the backend has them in TIME_WAIT; then the daemon was started again, and
// does not know which.
var portStates = []string{"fresh", "half-used", "restarted"}

// ports measures fullnat's new connections per second to one backend, by what its SNAT ports have
// been used for. The backend closes each connection. Every round has a testbed of its own.
func (b *Bench) ports(ctx context.Context) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(askers + 2*servings + 8))
	var rows []report.Row
	for _, state := range portStates {
		row := report.Row{
			Name: named("ports/sluice/fullnat", state), Experiment: "ports", System: "sluice", Mode: "fullnat", Ports: state,
			Protocol: "tcp", Services: 1, Backends: 1, Workers: 1, Connections: askers,
		}
		rows = append(rows, row)
	}
	cps := make([][]float64, len(rows))
	for round := range b.Rounds {
		rates, err := b.portsRound(ctx, rows[0])
		if err != nil {
			return err
		}
		for i, rate := range rates {
			cps[i] = append(cps[i], rate)
		}
		b.Log("  round %d of %d  connections per second: fresh %.0f, half used %.0f, restarted %.0f", round+1, b.Rounds, rates[0], rates[1], rates[2])
	}
	for i := range rows {
		rows[i].Set(report.CPS, cps[i])
		if i > 0 {
			rows[i].RatioToFresh = report.MedianRatio(cps[i], cps[0])
		}
	}
	b.Rows = append(b.Rows, rows...)
	return nil
}

// portsRound measures all states of the ports once.
func (b *Bench) portsRound(ctx context.Context, row report.Row) (rates []float64, err error) {
	sluice := b.sluice("fullnat")
	sluice.Backends = 1
	t, err := b.newTalk(ctx, row, sluice)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := wideRange(t.bed.Client); err != nil {
		return nil, err
	}
	measure := func() error {
		rate, _, err := b.opened(ctx, t)
		rates = append(rates, rate)
		return err
	}
	if err := measure(); err != nil {
		return nil, err
	}
	for used := uint64(0); used < snatPorts/2 && !b.Small; {
		_, n, err := b.opened(ctx, t)
		if err != nil {
			return nil, err
		}
		used += n
	}
	if err := measure(); err != nil {
		return nil, err
	}
	if err := restart(ctx, sluice, t.bed); err != nil {
		return nil, err
	}
	return rates, measure()
}

// opened opens connections for the length of a window, and returns how many.
func (b *Bench) opened(ctx context.Context, t *talk) (perSecond float64, n uint64, err error) {
	r, _, err := b.talk(ctx, t, b.asking())
	if err != nil {
		return 0, 0, errors.Join(err, r.Why)
	}
	if r.Errors > 0 {
		b.Log("  %d of %d connections failed, the first one: %v", r.Errors, r.Errors+r.Connections, r.Why)
	}
	return float64(r.Connections) / r.Seconds, r.Connections, nil
}

// restart ends the daemon and starts it again.
func restart(ctx context.Context, sluice *peers.Sluice, bed *testbed.Bed) error {
	if err := sluice.Stop(); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return sluice.Start(starting, bed)
}

// wideRange gives the clients more ports than a round has connections: none comes twice.
func wideRange(h *netlab.Host) error {
	p, err := h.Start(exec.Command("/bin/sh", "-c", "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range"))
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("setting the range of client ports: %w: %s", err, p.Output())
	}
	return nil
}
