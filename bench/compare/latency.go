package compare

import (
	"context"
	"errors"
	"fmt"

	"sluice/bench/loops"
	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/testbed"
)

// loads are in percent of a system's own capacity.
var loads = []int{10, 50, 90}

// latency measures how long packets take at parts of the capacity, which is measured again because
// the receiver does more work when it also reads the clock.
func (b *Bench) latency(ctx context.Context) (err error) {
	g := b.group()
	g.latency = true
	defer func() { err = errors.Join(err, g.close()) }()
	direct, err := g.direct(ctx)
	if err != nil {
		return err
	}
	var full []*entry
	for _, c := range []struct {
		system, mode string
		peer         peers.Peer
	}{
		{"empty", "empty", b.loop(loops.Empty)},
		{"sluice", "nat", b.sluice("nat")},
		{"l2fwd", "l2fwd", b.loop(loops.L2fwd)},
		{"forward", "forward", &peers.Forward{CPU: b.CPUs.Balancer}},
		{"nftables", "nftables", &peers.NFTables{CPU: b.CPUs.Balancer, Install: peers.Install(b.Install), Protocol: "udp"}},
	} {
		row := usual("latency", c.system, c.mode)
		s, err := g.add(ctx, row, c.peer, testbed.Options{})
		if err != nil {
			return err
		}
		if s != nil {
			full = append(full, &entry{subject: s, load: load(row), row: row})
		}
	}
	if err := g.open(ctx, full); err != nil {
		return err
	}
	var entries []*entry
	for _, e := range full {
		capacity, err := g.capacityOf(ctx, e)
		if err != nil {
			return err
		}
		for _, percent := range loads {
			row := e.row
			row.Name, row.LoadPercent = named(row.Name, fmt.Sprint(percent, "%")), percent
			part := &entry{subject: e.subject, load: e.load, row: row}
			part.load.Rate = capacity * 1e6 * float64(percent) / 100
			entries = append(entries, part)
		}
	}
	if err := g.run(ctx, append(entries, direct)); err != nil {
		return err
	}
	b.addAdded(direct.row.Name)
	return nil
}

// calibrations is how often a capacity is measured before parts of it are.
const calibrations = 3

// capacityOf returns the median, in Mpps, of a few measurements that are not kept.
func (g *group) capacityOf(ctx context.Context, e *entry) (float64, error) {
	trial := *e
	for range calibrations {
		if err := g.measure(ctx, &trial); err != nil {
			return 0, err
		}
	}
	return report.Median(trial.mpps), nil
}

// direct measures the way without a balancer: one wire from the client to the server.
func (g *group) direct(ctx context.Context) (*entry, error) {
	row := usual("latency", "wire", "wire")
	s, err := g.add(ctx, row, peers.None{}, testbed.Options{Direct: true})
	if err != nil {
		return nil, err
	}
	e := &entry{subject: s, load: load(row), row: row}
	e.load.Rate = directRate
	return e, nil
}

// directRate is far below what a wire carries.
const directRate = 100_000

// addAdded fills in the difference of each row to the bare wire.
func (b *Bench) addAdded(direct string) {
	var wire float64
	for _, r := range b.Rows {
		if r.Name == direct && r.Latency != nil {
			wire = r.Latency.P50
		}
	}
	for i := range b.Rows {
		if l := b.Rows[i].Latency; l != nil {
			l.Added = report.Round(l.P50 - wire)
		}
	}
}
