// Package compare is the network benchmark: it builds the systems side by side, each in a testbed
// of its own, and measures them in turn, round after round, so that other load on the machine
// affects all of them alike.
package compare

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/testbed"
	"sluice/bench/wire"
	"sluice/tools/pktgen/flow"
)

// Settings configures a benchmark.
type Settings struct {
	Program string // path of sluice
	Dir     string // for configuration files and sockets
	CPUs    testbed.CPUs
	Rounds  int
	Window  time.Duration  // of one measurement
	Only    *regexp.Regexp // of experiment names; nil: all
	Install bool           // missing peers, with apt
	Small   bool           // few flows, services and backends: checks that everything runs
	Log     func(format string, args ...any)
}

// Bench collects the rows of all experiments. It belongs to one goroutine.
type Bench struct {
	Settings
	Rows []report.Row

	beds, daemons int // made so far
}

// experiments in the order of the report.
var experiments = []struct {
	name string
	run  func(*Bench, context.Context) error
}{
	{"capacity", (*Bench).capacity},
	{"flows", (*Bench).flows},
	{"sizes", (*Bench).sizes},
	{"services", (*Bench).services},
	{"workers", (*Bench).workers},
	{"latency", (*Bench).latency},
	{"connections", (*Bench).connections},
	{"ports", (*Bench).ports},
}

// Names returns the names of all experiments.
func Names() (names []string) {
	for _, e := range experiments {
		names = append(names, e.name)
	}
	return names
}

// Run runs the experiments that Only selects. If one fails, the rows of those before it stay in
// Rows.
func (b *Bench) Run(ctx context.Context) error {
	ran := false
	for _, e := range experiments {
		if b.Only != nil && !b.Only.MatchString(e.name) {
			continue
		}
		ran = true
		b.Log("%s", e.name)
		if err := e.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if !ran {
		return fmt.Errorf("no experiment is selected; there are %v", Names())
	}
	return nil
}

// warm is how long a load runs before it is measured: rings and caches fill, and a sleeping worker
// wakes.
func (b *Bench) warm() time.Duration { return min(b.Window/3, 200*time.Millisecond) }

// subject is a system, set up in a testbed of its own.
type subject struct {
	name string // unique in its group
	peer peers.Peer
	bed  *testbed.Bed
	wire *wire.Wire
	row  report.Row // the common fields of its rows
}

// group is subjects that are up at the same time.
type group struct {
	bench    *Bench
	rounds   int
	window   time.Duration
	latency  bool // measure it
	subjects []*subject
	skipped  []report.Row // listed after the others
}

func (b *Bench) group() *group { return &group{bench: b, rounds: b.Rounds, window: b.Window} }

// add sets up a system. A system that this machine does not have gets a row with the reason, and no
// subject.
func (g *group) add(ctx context.Context, row report.Row, peer peers.Peer, o testbed.Options) (*subject, error) {
	b := g.bench
	b.beds++
	o.Name = fmt.Sprint("bench", b.beds)
	s := &subject{name: row.Name, peer: peer, row: row}
	var err error
	if s.bed, err = testbed.New(o); err != nil {
		return nil, err
	}
	g.subjects = append(g.subjects, s)
	if s.wire, err = wire.Open(s.bed, b.CPUs.Ends, g.latency); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = peer.Start(starting, s.bed)
	if reason, missing := peers.IsMissing(err); missing {
		row.Skipped = reason
		g.skipped = append(g.skipped, row)
		b.Log("  %-28s skipped: %s", row.Name, reason)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", row.Name, err)
	}
	return s, nil
}

// startTimeout bounds the start of one system.
const startTimeout = 60 * time.Second

// close ends all systems and removes their testbeds.
func (g *group) close() error {
	var errs []error
	for _, s := range g.subjects {
		if s.wire != nil {
			errs = append(errs, s.wire.Close())
		}
		errs = append(errs, s.bed.Close())
	}
	return errors.Join(errs...)
}

// entry becomes one row: a subject under a load.
type entry struct {
	subject *subject
	load    wire.Load
	row     report.Row
	empty   *entry // reference of the ratio; nil: none

	mpps, offered, syscalls, batches, cpuNs, busy, ends []float64
	latency                                             []report.Latency
}

// run measures all entries, round after round, and adds their rows. Each round begins with another
// entry.
func (g *group) run(ctx context.Context, entries []*entry) error {
	b := g.bench
	for round := range g.rounds {
		for i := range entries {
			e := entries[(i+round)%len(entries)]
			if err := g.measure(ctx, e); err != nil {
				return fmt.Errorf("%s: %w", e.row.Name, err)
			}
		}
		b.Log("  round %d of %d%s", round+1, g.rounds, summary(entries))
	}
	for _, e := range entries {
		b.Rows = append(b.Rows, e.finish())
	}
	b.Rows = append(b.Rows, g.skipped...)
	return nil
}

// summary formats what the first few entries carried in the last round.
func summary(entries []*entry) (text string) {
	const most = 8
	for _, e := range entries[:min(len(entries), most)] {
		text += fmt.Sprintf("  %s %.3f", e.subject.row.Mode, e.mpps[len(e.mpps)-1])
	}
	if len(entries) > most {
		text += fmt.Sprintf(" and %d more", len(entries)-most)
	}
	return text + " Mpps"
}

// measure measures one entry once.
func (g *group) measure(ctx context.Context, e *entry) error {
	b := g.bench
	e.load.Warm, e.load.Window = b.warm(), g.window
	var before, after peers.Counters
	var busyBefore, busyAfter busy
	r, err := e.subject.wire.Measure(ctx, e.load,
		func() (err error) {
			busyBefore = readBusy(b.CPUs)
			before, err = e.subject.peer.Counters(ctx)
			return err
		},
		func() (err error) {
			busyAfter = readBusy(b.CPUs)
			after, err = e.subject.peer.Counters(ctx)
			return err
		})
	if err != nil {
		return err
	}
	e.mpps, e.offered = append(e.mpps, r.Mpps()), append(e.offered, r.OfferedMpps())
	did := after.Since(before)
	e.row.AFXDP = after.Mode
	if s := did.SyscallsPerPacket(); s >= 0 {
		e.syscalls = append(e.syscalls, s)
	}
	if did.Batches > 0 {
		e.batches = append(e.batches, float64(did.Received)/float64(did.Batches))
	}
	if did.CPUNs > 0 && did.Frames > 0 {
		e.cpuNs = append(e.cpuNs, did.CPUNs/float64(did.Frames))
	}
	spent := busyAfter.since(busyBefore)
	e.busy, e.ends = append(e.busy, spent.balancer), append(e.ends, spent.ends)
	if r.Latency != nil && r.Latency.TotalCount() > 0 {
		us := func(quantile float64) float64 { return float64(r.Latency.ValueAtQuantile(quantile)) / 1e3 }
		e.latency = append(e.latency, report.Latency{
			P50: us(50), P99: us(99), P999: us(99.9), Max: float64(r.Latency.Max()) / 1e3,
			Lost: max(0, 1-float64(r.Received)/float64(max(r.Sent, 1))),
		})
	}
	return nil
}

// finish completes the row.
func (e *entry) finish() report.Row {
	row := e.row
	row.Set(report.Mpps, e.mpps)
	row.OfferedMpps = report.Number(report.Median(e.offered))
	if e.empty != nil {
		row.Compare(e.mpps, e.empty.mpps)
	}
	if len(e.syscalls) > 0 {
		row.SyscallsPerPacket = report.Number(report.Median(e.syscalls))
	}
	if len(e.batches) > 0 {
		row.PacketsPerBatch = report.Number(report.Median(e.batches))
	}
	if len(e.cpuNs) > 0 {
		row.CPUNsPerPacket = report.Number(report.Median(e.cpuNs))
	}
	row.BalancerCPU, row.EndsCPU = report.Number(report.Median(e.busy)), report.Number(report.Median(e.ends))
	if len(e.latency) > 0 {
		row.Latency = medianLatency(e.latency)
	}
	return row
}

// medianLatency returns the median of the rounds for each figure.
func medianLatency(all []report.Latency) *report.Latency {
	of := func(pick func(report.Latency) float64) float64 {
		var values []float64
		for _, l := range all {
			values = append(values, pick(l))
		}
		return report.Round(report.Median(values))
	}
	return &report.Latency{
		P50:  of(func(l report.Latency) float64 { return l.P50 }),
		P99:  of(func(l report.Latency) float64 { return l.P99 }),
		P999: of(func(l report.Latency) float64 { return l.P999 }),
		Max:  of(func(l report.Latency) float64 { return l.Max }),
		Lost: of(func(l report.Latency) float64 { return l.Lost }),
	}
}

// open opens the flows of the entry with the most flows at each subject.
func (g *group) open(ctx context.Context, entries []*entry) error {
	most := map[*subject]wire.Load{}
	for _, e := range entries {
		if e.load.Flows > most[e.subject].Flows {
			most[e.subject] = e.load
		}
	}
	for _, s := range g.subjects {
		if load, used := most[s]; used {
			if err := s.wire.Open(ctx, load, openRate); err != nil {
				return fmt.Errorf("%s: opening %d flows: %w", s.name, load.Flows, err)
			}
		}
	}
	return nil
}

// openAndRun calls open, then run.
func (g *group) openAndRun(ctx context.Context, entries []*entry) error {
	if err := g.open(ctx, entries); err != nil {
		return err
	}
	return g.run(ctx, entries)
}

// anyFlow picks flows at random, so that their state is not read in the order of memory.
const anyFlow = flow.Uniform

// openRate is in frames per second. It is low enough for every system to receive all of them.
const openRate = 200_000

// named joins the parts of a row's name.
func named(parts ...any) string {
	var texts []string
	for _, p := range parts {
		texts = append(texts, fmt.Sprint(p))
	}
	return strings.Join(texts, "/")
}
