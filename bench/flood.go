package main

import (
	"fmt"
	"net/netip"
	"slices"

	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// What a flood consists of may cost so many times what an established packet costs, and adopted
// connections so many times what new ones cost.
const (
	floodMost = 1.5
	adoptMost = 1.25
)

// byHash makes the lab's service one that adopts connections.
func (l *lab) byHash() error {
	s := &l.tables.Services[1]
	candidates := make([]sched.Candidate, len(s.Backends))
	for i, id := range s.Backends {
		key := netip.AddrPortFrom(l.tables.Backends[id].Addr.Netip(), 80)
		candidates[i] = sched.Candidate{ID: id, Weight: 1, LastWeight: 1, Up: true, Key: key}
	}
	var err error
	s.Scheduler, err = sched.New("mh", candidates, [16]byte{})
	s.Adopt = true
	l.rebuild()
	return err
}

// floods measures packets that open no connection: SYNs of ever new clients, one in each packet, to
// a table that is full of the row's established flows. want is what has to happen to them.
func floods(r *result, mode service.Mode, rounds, packets, batch int, prepare func(*lab) error, want func(*pipeline.Frame) bool) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.open(r.Flows); err != nil {
		return err
	}
	if err := prepare(l); err != nil {
		return err
	}
	return l.flood(r, rounds, packets, want)
}

// flood measures SYNs of ever new flows, one in each packet, from the first flow on that open has
// left. want is what has to happen to them.
func (l *lab) flood(r *result, rounds, packets int, want func(*pipeline.Frame) bool) (err error) {
	at := uint32(len(l.chosen))
	allocs := allocations(func() {
		for range rounds {
			l.times = l.times[:0]
			for done := 0; done < packets; done += l.size {
				for i := range l.size {
					l.put(i, at, packet.SYN)
					at++
				}
				l.timed(l.size)
				if f := &l.batch.Frames[0]; !want(f) {
					err = fmt.Errorf("flow %d: verdict %v, reason %v", at, f.Verdict, f.Reason)
					return
				}
			}
			r.ns = append(r.ns, l.mean())
		}
	})
	r.AllocsPerPacket = perUnit(allocs, rounds*packets)
	return err
}

// noService measures packets to an address of a service, but to another port. The first thousand
// are answered.
func noService(r *result, mode service.Mode, rounds, packets, batch int) error {
	return floods(r, mode, rounds, packets, batch, func(l *lab) error {
		l.frame[l.l4()+3]++
		l.tables.Services[1].Unowned = true
		l.rebuild()
		return nil
	}, func(f *pipeline.Frame) bool {
		return f.Verdict == pipeline.Reply || f.Verdict == pipeline.Drop && f.Reason == counter.NoService
	})
}

// tableFull measures connections that find no room.
func tableFull(r *result, mode service.Mode, rounds, packets, batch int) error {
	return floods(r, mode, rounds, packets, batch, func(*lab) error { return nil },
		func(f *pipeline.Frame) bool { return f.Verdict == pipeline.Drop && f.Reason == counter.TableFull })
}

// untracked measures packets that are forwarded by the hash, without an entry.
func untracked(r *result, mode service.Mode, rounds, packets, batch int) error {
	var l *lab
	return floods(r, mode, rounds, packets, batch, func(made *lab) error { l = made; return l.byHash() },
		func(f *pipeline.Frame) bool { return f.Verdict == pipeline.Forward && l.proc.Packets.Untracked > 0 })
}

// openingHashed is opening for connections of a service that adopts them. Their first packets have
// these flags; the first one that is no SYN opens the connection. The time is that of a packet.
func openingHashed(r *result, mode service.Mode, rounds, batch int, tcpFlags ...byte) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	s := &l.tables.Services[1]
	for i := range s.TimeoutsMs {
		s.TimeoutsMs[i] = synTimeoutMs
	}
	if err := l.byHash(); err != nil {
		return err
	}
	return l.churns(r, rounds, tcpFlags...)
}

// relate fills in the ratios of rows to those that they have a goal for.
func relate(rows []*row) {
	for _, w := range rows {
		i := slices.IndexFunc(rows, func(other *row) bool {
			return other.Name == w.RatioOf && other.Mode == w.Mode && other.Family == w.Family && other.Flows == w.Flows
		})
		if i >= 0 {
			w.Ratio = round2(w.NsPerPacket / rows[i].NsPerPacket)
			w.checkGoal()
			fmt.Printf("%s/%s/%d/%d: %.2f times %s, goal %.2f\n", w.Name, w.Mode, w.Family, w.Flows, w.Ratio, w.RatioOf, w.RatioMost)
		}
	}
}
