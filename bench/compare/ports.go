package compare

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/testbed"
)

// The rows of ports: no port was used; nearly half of them were within the last minute, so that the
// backends have them in TIME_WAIT; then the daemon was started again, and does not know which; all
// were, and each new connection gets one that was.
var portStates = []string{"fresh", "half-used", "restarted", "used-up"}

// portSlices is how many windows a state is measured for in a round, in turn with the others.
const portSlices = 6

const (
	portBackends = 2
	// healthPorts is how many ports below the range of the kernel fullnat leaves to health checks.
	healthPorts = 4096
	// mostPorts is how many ports fullnat can have per backend if the kernel has a few hundred.
	mostPorts = 60_000 - healthPorts
)

// portBed is a testbed of one state, with what its ports were used for.
type portBed struct {
	*talk
	sluice *peers.Sluice
	ports  int // of all backends
	all    int // connections, about: those before the windows included
	opened uint64
	took   float64 // seconds
}

// used returns the percentage of the ports that were used.
func (p *portBed) used() int { return min(100*p.all/p.ports, 100) }

// ports measures fullnat's new connections per second by what its SNAT ports have been used for.
// The backends close each connection. Every round has testbeds of its own, one for each state.
// While the states but the last are measured, at most half of the ports are in use or in TIME_WAIT.
func (b *Bench) ports(ctx context.Context) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(askers + 2*servings*len(portStates) + 8))
	rows, cps := make([]report.Row, len(portStates)), make([][]float64, len(portStates))
	for i, state := range portStates {
		rows[i] = report.Row{
			Name: named("ports/sluice/fullnat", state), Experiment: "ports", System: "sluice", Mode: "fullnat", Ports: state,
			Protocol: "tcp", Services: 1, Backends: portBackends, Workers: 1, Connections: askers,
		}
	}
	for range b.Rounds {
		rates, err := b.portsRound(ctx, rows)
		if err != nil {
			return err
		}
		for i, rate := range rates {
			cps[i] = append(cps[i], rate)
		}
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

// portsRound measures all states once, a window of each in turn.
func (b *Bench) portsRound(ctx context.Context, rows []report.Row) (rates []float64, err error) {
	var beds []*portBed
	defer func() {
		for _, p := range beds {
			err = errors.Join(err, p.close())
		}
	}()
	n := 0 // connections of a state in all its windows, and half as many more: rates rise
	for i, row := range rows {
		// While they are measured, the used portion of the ports rises to a half; or all are.
		size := [...]int{mostPorts, 3 * n, 3 * n, n / 2}[i]
		p, err := b.newPortBed(ctx, row, min(max(size, 100), mostPorts))
		if p != nil {
			beds = append(beds, p)
		}
		if err == nil && i == 0 {
			err = b.open(ctx, p, b.Window)
			p.opened, p.took = 0, 0 // the first ones are slow
			if err == nil {
				err = b.open(ctx, p, b.Window)
			}
			n = int(1.5 * float64(p.opened) / p.took * portSlices * (b.warm() + b.Window).Seconds())
		}
		if err != nil {
			return nil, err
		}
	}
	if !b.Small {
		if err := b.usePorts(ctx, beds, n); err != nil {
			return nil, err
		}
	}
	if err := beds[2].restart(ctx); err != nil {
		return nil, err
	}
	text := ""
	for _, p := range beds {
		p.opened, p.took = 0, 0
		text += fmt.Sprintf("  %s: from %d %%", p.row.Ports, p.used())
	}
	for range portSlices {
		for _, p := range beds {
			if err := b.open(ctx, p, b.Window); err != nil {
				return nil, err
			}
		}
	}
	b.Log("  ports used within the last minute:%s", text)
	text = ""
	for i, p := range beds {
		rates = append(rates, float64(p.opened)/p.took)
		text += fmt.Sprintf("  %s: %.0f (%.2f), to %d %%", p.row.Ports, rates[i], rates[i]/rates[0], p.used())
	}
	b.Log("  connections per second (portion of fresh), and ports used:%s", text)
	return rates, nil
}

// newPortBed sets up a testbed in which fullnat has so many ports per backend. It returns what it
// has made even if it fails.
func (b *Bench) newPortBed(ctx context.Context, row report.Row, ports int) (*portBed, error) {
	sluice := b.sluice("fullnat")
	sluice.Backends = portBackends
	b.beds++
	bed, err := testbed.New(testbed.Options{Name: fmt.Sprint("bench", b.beds)})
	if err != nil {
		return nil, err
	}
	p := &portBed{talk: &talk{bed: bed, peer: sluice, row: row}, sluice: sluice, ports: portBackends * ports}
	err = errors.Join(
		bed.Balancer.Sysctl("net.ipv4.ip_local_port_range", fmt.Sprint(1024+ports+healthPorts, 65_535)),
		bed.Client.Sysctl("net.ipv4.ip_local_port_range", "1024 65535"), // no port comes twice
		// Else the kernel accepts a SYN in TIME_WAIT from a client that it knows.
		bed.Client.Sysctl("net.ipv4.tcp_timestamps", "0"),
	)
	if err == nil {
		err = p.start(ctx, b.CPUs)
	}
	return p, err
}

// usePorts uses ports of each testbed but the first: of the last all, of the others so many that
// half are used when n more connections have been opened.
func (b *Bench) usePorts(ctx context.Context, beds []*portBed, n int) error {
	for i, until := range []int{0, beds[1].ports/2 - n, beds[2].ports/2 - n, beds[3].ports * 11 / 10} {
		for p := beds[i]; p.all < until; {
			perSecond := float64(beds[0].opened) / beds[0].took
			if p.took > 0 {
				perSecond = float64(p.opened) / p.took
			}
			rest, before := time.Duration(float64(until-p.all)/perSecond*float64(time.Second)), p.all
			if err := b.open(ctx, p, min(max(rest-b.warm(), b.Window/4), b.Window)); err != nil {
				return err
			}
			if p.all == before {
				return errors.New("no connection gets through while ports are used")
			}
		}
	}
	return nil
}

// open opens connections for the length of a window.
func (b *Bench) open(ctx context.Context, p *portBed, window time.Duration) error {
	l := b.asking()
	l.Window = window
	r, _, err := b.talk(ctx, p.talk, l)
	if err != nil {
		return errors.Join(err, r.Why)
	}
	if r.Errors > 0 {
		b.Log("  %s: %d of %d connections failed, the first one: %v", p.row.Ports, r.Errors, r.Errors+r.Connections, r.Why)
	}
	p.opened, p.took = p.opened+r.Connections, p.took+r.Seconds
	p.all += int(float64(r.Connections) * (window + b.warm()).Seconds() / r.Seconds)
	return nil
}

// restart ends the daemon and starts it again.
func (p *portBed) restart(ctx context.Context) error {
	if err := p.sluice.Stop(); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return p.sluice.Start(starting, p.bed)
}
