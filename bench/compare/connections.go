package compare

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"sluice/bench/peers"
	"sluice/bench/report"
	"sluice/bench/sockets"
	"sluice/bench/testbed"
	"sluice/tools/pktgen/affinity"
)

// Load of the real sockets.
const (
	askers   = 32 // clients that open connections one after the other
	streams  = 8  // clients that send all the time
	servings = 16 // servers per port, more than streams
)

// talk is a system with real sockets at both ends.
type talk struct {
	bed     *testbed.Bed
	peer    peers.Peer
	servers *sockets.Servers
	row     report.Row // of one of its measurements

	cps, gbps          []float64
	cpsBusy, cpsEnds   []float64
	bulkBusy, bulkEnds []float64
}

// connections measures connections per second and bulk throughput with the kernel's TCP at both
// ends.
func (b *Bench) connections(ctx context.Context) error {
	// Every client and every server is a thread in blocking calls. With one processor of the Go
	// runtime for each, none has to wait until another thread hands one over, maybe on the
	// balancer's CPU.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(askers + 2*servings + 8))
	for _, offloads := range []bool{false, true} {
		if err := b.talks(ctx, offloads); err != nil {
			return err
		}
	}
	return nil
}

// talks measures all systems, with or without offloads of checksum and segmentation. Sluice is
// measured without offloads only: with them its frames would have wrong checksums and sizes above
// the MTU.
func (b *Bench) talks(ctx context.Context, offloads bool) (err error) {
	cpu, install := b.CPUs.Balancer, peers.Install(b.Install)
	systems := []struct {
		system, mode string
		peer         peers.Peer
	}{
		{"forward", "forward", &peers.Forward{CPU: cpu, Sockets: true}},
		{"nftables", "nftables", &peers.NFTables{CPU: cpu, Install: install, Protocol: "tcp", Sockets: true}},
		{"haproxy", "haproxy", &peers.HAProxy{CPU: cpu, Install: install, Dir: b.Dir, Name: fmt.Sprint("haproxy", offloads)}},
	}
	if !offloads {
		systems = append(systems, struct {
			system, mode string
			peer         peers.Peer
		}{"sluice", "nat", b.sluice("nat")})
	}
	var all []*talk
	defer func() {
		for _, t := range all {
			err = errors.Join(err, t.close())
		}
	}()
	for _, c := range systems {
		t, err := b.newTalk(ctx, report.Row{System: c.system, Mode: c.mode, Protocol: "tcp", Services: 1, Backends: 3, Workers: 1, Offloads: offloads}, c.peer)
		if err != nil {
			return err
		}
		if t != nil {
			all = append(all, t)
		}
	}
	for round := range b.Rounds {
		text := ""
		for i := range all {
			t := all[(i+round)%len(all)]
			if err := b.round(ctx, t); err != nil {
				return fmt.Errorf("%s: %w", t.row.System, err)
			}
		}
		for _, t := range all {
			text += fmt.Sprintf("  %s %.0f/s %.2f Gbit/s", t.row.Mode, t.cps[round], t.gbps[round])
		}
		b.Log("  round %d of %d%s", round+1, b.Rounds, text)
	}
	for _, t := range all {
		if did, err := t.peer.Counters(ctx); err == nil {
			t.row.AFXDP = did.Mode
		}
		b.Rows = append(b.Rows, t.finish(report.CPS), t.finish(report.Gbps))
	}
	return nil
}

// newTalk sets up a system. It returns nil if this machine does not have it.
func (b *Bench) newTalk(ctx context.Context, row report.Row, peer peers.Peer) (t *talk, err error) {
	b.beds++
	t = &talk{peer: peer, row: row}
	if t.bed, err = testbed.New(testbed.Options{Name: fmt.Sprint("bench", b.beds), Offloads: row.Offloads}); err != nil {
		return nil, err
	}
	if err = t.start(ctx, b.CPUs); err == nil {
		return t, nil
	}
	closeErr := t.close()
	if reason, missing := peers.IsMissing(err); missing {
		for _, unit := range []string{report.CPS, report.Gbps} {
			row := t.finish(unit)
			row.Skipped = reason
			b.Rows = append(b.Rows, row)
		}
		b.Log("  %s skipped: %s", row.System, reason)
		return nil, closeErr
	}
	return nil, errors.Join(fmt.Errorf("starting %s: %w", row.System, err), closeErr)
}

// start moves the work of both ends to their CPU, including the receive work that the balancer's
// sending causes.
func (t *talk) start(ctx context.Context, cpus testbed.CPUs) error {
	err := errors.Join(
		testbed.SpreadTo(t.bed.Client, testbed.Eth, cpus.Ends),
		testbed.SpreadTo(t.bed.Server, testbed.Eth, cpus.Ends),
		t.bed.Server.AddLo(testbed.VIP.String()), // for the system that forwards only
	)
	if err != nil {
		return err
	}
	there := affinity.Affinity{Netns: t.bed.Server.Namespace(), CPU: cpus.Ends}
	if t.servers, err = sockets.Serve(there, servings, testbed.FirstPort, peers.BackendPort); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return t.peer.Start(starting, t.bed)
}

func (t *talk) close() error {
	err := t.bed.Close() // ends the connections that servers wait for
	if t.servers != nil {
		err = errors.Join(err, t.servers.Close())
	}
	return err
}

// round measures each kind of load once.
func (b *Bench) round(ctx context.Context, t *talk) error {
	l := b.asking()
	r, spent, err := b.talk(ctx, t, l)
	if err != nil {
		return errors.Join(err, r.Why)
	}
	if r.Errors > 0 {
		b.Log("  %s: %d of %d connections failed, the first one: %v", t.row.Mode, r.Errors, r.Errors+r.Connections, r.Why)
	}
	t.cps = append(t.cps, float64(r.Connections)/r.Seconds)
	t.cpsBusy, t.cpsEnds = append(t.cpsBusy, spent.balancer), append(t.cpsEnds, spent.ends)
	l.Clients, l.Bulk = streams, true
	if r, spent, err = b.talk(ctx, t, l); err != nil {
		return errors.Join(err, r.Why)
	}
	t.gbps = append(t.gbps, float64(r.Bytes)*8/r.Seconds/1e9)
	t.bulkBusy, t.bulkEnds = append(t.bulkBusy, spent.balancer), append(t.bulkEnds, spent.ends)
	return nil
}

// asking is the load of clients that open connections one after the other.
func (b *Bench) asking() sockets.Load {
	return sockets.Load{To: netip.AddrPortFrom(testbed.VIP, testbed.FirstPort), Clients: askers, Warm: b.warm(), Window: b.Window}
}

func (b *Bench) talk(ctx context.Context, t *talk, l sockets.Load) (r sockets.Reading, spent busy, err error) {
	var before busy
	here := affinity.Affinity{Netns: t.bed.Client.Namespace(), CPU: b.CPUs.Ends}
	r, err = sockets.Measure(ctx, here, t.servers, l,
		func() error { before = readBusy(b.CPUs); return nil },
		func() error { spent = readBusy(b.CPUs).since(before); return nil })
	return r, spent, err
}

// finish completes the row of one kind of load.
func (t *talk) finish(unit string) report.Row {
	row := t.row
	rounds, busy, ends := t.cps, t.cpsBusy, t.cpsEnds
	row.Experiment, row.Connections = "connections", askers
	if unit == report.Gbps {
		rounds, busy, ends = t.gbps, t.bulkBusy, t.bulkEnds
		row.Experiment, row.Connections = "bulk", streams
	}
	row.Name = named(row.Experiment, row.System, row.Mode)
	if row.Offloads {
		row.Name = named(row.Name, "offloads")
	}
	row.Set(unit, rounds)
	if len(busy) > 0 {
		row.BalancerCPU, row.EndsCPU = report.Number(report.Median(busy)), report.Number(report.Median(ends))
	}
	return row
}
