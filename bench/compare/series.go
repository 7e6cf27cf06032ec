package compare

import (
	"context"
	"errors"
	"fmt"

	"sluice/bench/loops"
	"sluice/bench/peers"
	"sluice/bench/testbed"
)

// pick returns the small list in a run that only checks that everything works.
func pick[T any](b *Bench, small, full []T) []T {
	if b.Small {
		return small
	}
	return full
}

// trackedFlows is the number of flows that nftables has to track. The kernel's default limit is not
// much higher.
const trackedFlows = 100_000

// flows measures against the number of flows: the state of many does not fit in the CPU's caches.
func (b *Bench) flows(ctx context.Context) (err error) {
	g := b.group()
	defer func() { err = errors.Join(err, g.close()) }()
	counts := pick(b, []int{100, 2000}, []int{100, 1_000, 10_000, 100_000, 1_000_000})
	sluice := b.sluice("nat")
	sluice.Connections = 2 << 20
	var entries []*entry
	for _, c := range []struct {
		system, mode string
		peer         peers.Peer
		most         int
	}{
		{"empty", "empty", b.loop(loops.Empty), counts[len(counts)-1]},
		{"sluice", "nat", sluice, counts[len(counts)-1]},
		{"nftables", "nftables", &peers.NFTables{CPU: b.CPUs.Balancer, Install: peers.Install(b.Install), Protocol: "udp"}, trackedFlows},
	} {
		s, err := g.add(ctx, usual("flows", c.system, c.mode), c.peer, testbed.Options{})
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		for _, n := range counts {
			row := usual("flows", c.system, c.mode, n)
			row.Flows = n
			if n > c.most {
				row.Skipped = fmt.Sprintf("the kernel tracks no more than some %d connections by default", trackedFlows)
				g.skipped = append(g.skipped, row)
				continue
			}
			e := &entry{subject: s, load: load(row), row: row}
			e.load.Pick = anyFlow
			entries = append(entries, e)
		}
	}
	relate(entries)
	return g.openAndRun(ctx, entries)
}

// sizes measures against the size of frames.
func (b *Bench) sizes(ctx context.Context) (err error) {
	g := b.group()
	defer func() { err = errors.Join(err, g.close()) }()
	var entries []*entry
	for _, c := range []struct {
		system, mode string
		peer         peers.Peer
	}{
		{"empty", "empty", b.loop(loops.Empty)},
		{"sluice", "nat", b.sluice("nat")},
		{"forward", "forward", &peers.Forward{CPU: b.CPUs.Balancer}},
	} {
		s, err := g.add(ctx, usual("sizes", c.system, c.mode), c.peer, testbed.Options{})
		if err != nil {
			return err
		}
		for _, n := range pick(b, []int{60, 1514}, []int{60, 124, 252, 508, 1020, 1514}) {
			row := usual("sizes", c.system, c.mode, n)
			row.FrameBytes = n
			entries = append(entries, &entry{subject: s, load: load(row), row: row})
		}
	}
	relate(entries)
	return g.openAndRun(ctx, entries)
}

// services measures against the number of services and of backends.
func (b *Bench) services(ctx context.Context) (err error) {
	g := b.group()
	defer func() { err = errors.Join(err, g.close()) }()
	var entries []*entry
	for _, n := range pick(b, []struct{ services, backends int }{{1, 3}, {4, 3}, {1, 8}},
		[]struct{ services, backends int }{{1, 3}, {10, 3}, {100, 3}, {1000, 3}, {1, 30}, {1, 300}, {1, 1000}}) {
		sluice := b.sluice("nat")
		sluice.Services, sluice.Backends = n.services, n.backends
		row := usual("services", "sluice", "nat", n.services, n.backends)
		row.Services, row.Backends = n.services, n.backends
		row.Flows = flowsForServices
		s, err := g.add(ctx, row, sluice, testbed.Options{Backends: min(n.backends, mostAddresses)})
		if err != nil {
			return err
		}
		entries = append(entries, &entry{subject: s, load: load(row), row: row})
	}
	return g.openAndRun(ctx, entries)
}

const (
	// flowsForServices is large enough for every service and every backend to have flows.
	flowsForServices = 10_000
	// mostAddresses bounds the addresses of backends. More backends share them and differ in the
	// port.
	mostAddresses = 100
)

// workers measures one worker against two. Both testbeds have two queues per port, so that they
// differ in nothing else.
func (b *Bench) workers(ctx context.Context) (err error) {
	g := b.group()
	defer func() { err = errors.Join(err, g.close()) }()
	if b.CPUs.Balancer == b.CPUs.Ends {
		row := usual("workers", "sluice", "nat", 2)
		row.Workers, row.Skipped = 2, "this machine has one CPU"
		b.Rows = append(b.Rows, row)
		return nil
	}
	var entries []*entry
	for _, mode := range []string{"nat", "dr"} {
		for n := 1; n <= 2; n++ {
			sluice := b.sluice(mode)
			sluice.Cores = []int{b.CPUs.Balancer, b.CPUs.Ends}[:n]
			row := usual("workers", "sluice", mode, n)
			row.Workers = n
			s, err := g.add(ctx, row, sluice, testbed.Options{Queues: 2})
			if err != nil {
				return err
			}
			entries = append(entries, &entry{subject: s, load: load(row), row: row})
		}
	}
	return g.openAndRun(ctx, entries)
}
