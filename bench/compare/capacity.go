package compare

import (
	"context"
	"errors"
	"fmt"

	"sluice/bench/loops"
	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/testbed"
	"sluice/bench/wire"
)

// usualFlows is the number of flows of experiments that do not vary it.
const usualFlows = 1000

// sluice returns a daemon of a mode with one worker.
func (b *Bench) sluice(mode string) *peers.Sluice {
	b.daemons++
	return &peers.Sluice{Program: b.Program, Dir: b.Dir, Name: fmt.Sprint("sluice", b.daemons), Mode: mode, Cores: []int{b.CPUs.Balancer}}
}

func (b *Bench) loop(kind loops.Kind) *peers.Loop {
	return &peers.Loop{Kind: kind, CPU: b.CPUs.Balancer}
}

// usual returns the row of a system under the usual load.
func usual(experiment, system, mode string, more ...any) report.Row {
	return report.Row{
		Name: named(append([]any{experiment, system, mode}, more...)...), Experiment: experiment, System: system, Mode: mode,
		Protocol: "udp", Flows: usualFlows, FrameBytes: smallestUDP, Services: 1, Backends: 3, Workers: 1,
	}
}

// Sizes in bytes, without frame check sequence, of the smallest frames with a stamp.
const (
	smallestUDP = 60
	smallestTCP = 72
)

// load returns the load that a row names.
func load(row report.Row) wire.Load {
	return wire.Load{Flows: row.Flows, FrameBytes: row.FrameBytes, TCP: row.Protocol == "tcp", Ports: row.Services}
}

// shorter is the factor by which rounds of the capacity are shorter and more in number, because
// everything else refers to it.
const shorter = 3

// capacity measures how many packets per second each system forwards when more are offered than it
// can take.
func (b *Bench) capacity(ctx context.Context) (err error) {
	g := b.group()
	g.rounds, g.window = b.Rounds*shorter, b.Window*2/shorter
	defer func() { err = errors.Join(err, g.close()) }()
	cpu, install := b.CPUs.Balancer, peers.Install(b.Install)
	var entries []*entry
	for _, c := range []struct {
		system, mode string
		peer         peers.Peer
		tcp          bool // a row with TCP, too
	}{
		{"empty", "empty", b.loop(loops.Empty), true},
		{"sluice", "nat", b.sluice("nat"), true},
		{"sluice", "tun", b.sluice("tun"), false},
		{"sluice", "dr", b.sluice("dr"), false},
		{"sluice", "fullnat", b.sluice("fullnat"), false},
		{"l2fwd", "l2fwd", b.loop(loops.L2fwd), false},
		{"forward", "forward", &peers.Forward{CPU: cpu}, false},
		{"nftables", "nftables", &peers.NFTables{CPU: cpu, Install: install, Protocol: "udp"}, false},
		{"ipvs", "ipvs", &peers.IPVS{CPU: cpu, Install: install, Protocol: "udp"}, false},
	} {
		row := usual("capacity", c.system, c.mode)
		s, err := g.add(ctx, row, c.peer, testbed.Options{})
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		entries = append(entries, &entry{subject: s, load: load(row), row: row})
		if c.tcp {
			row := usual("capacity", c.system, c.mode, "tcp")
			row.Protocol, row.FrameBytes = "tcp", smallestTCP
			entries = append(entries, &entry{subject: s, load: load(row), row: row})
		}
	}
	relate(entries)
	return g.openAndRun(ctx, entries)
}

// relate makes the empty loop under the same load the reference of each entry, if it was measured.
func relate(entries []*entry) {
	for _, e := range entries {
		for _, other := range entries {
			if other.row.System == "empty" && other.load == e.load {
				e.empty = other
			}
		}
	}
}
