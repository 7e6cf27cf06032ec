package main

import (
	"fmt"
	"net/netip"
	"time"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// fragmentDatagrams is the number of datagrams that a run sends again and again: as many identities
// are in use at once.
const fragmentDatagrams = 1024

// fragments measures datagrams of two fragments each, of the row's number of flows: half of the
// packets have ports.
func fragments(r *result, mode service.Mode, rounds, packets, batch int) error {
	c := newCrew(1)
	c.proto = service.UDP
	l, err := newWorkerLab(c, 0, r.Family, mode, max(r.Flows, 1024), batch)
	if err != nil {
		return err
	}
	defer l.close()
	vip, _, _ := l.addresses()
	var frames [][]byte
	for n := range fragmentDatagrams {
		client := fmt.Sprintf("10.0.%d.%d:5000", n%r.Flows>>8, n%r.Flows&255)
		if r.Family == 6 {
			client = fmt.Sprintf("[2001:db8:9::%x]:5000", 1+n%r.Flows)
		}
		whole := packettest.UDP(client, netip.AddrPortFrom(vip, 80).String()).Payload(make([]byte, 64)).Frame()
		frames = append(frames, packettest.Split(whole, uint32(n), 88)...)
	}
	run := func(packets int) (float64, error) {
		l.times = l.times[:0]
		for done := 0; done < packets; done += l.size {
			for i := range l.size {
				l.putFrame(i, frames[(done+i)%len(frames)])
			}
			start := time.Now()
			l.proc.Process(l.batch, l.size, l.tables, l.nowMs)
			l.times = append(l.times, time.Since(start))
			for i := range l.size {
				if f := &l.batch.Frames[i]; f.Verdict != pipeline.Forward {
					return 0, fmt.Errorf("a fragment has verdict %v, reason %v", f.Verdict, f.Reason)
				}
			}
		}
		return l.mean(), nil
	}
	if _, err := run(packets / 4); err != nil {
		return err
	}
	allocs := allocations(func() {
		for range rounds {
			var ns float64
			if ns, err = run(packets); err != nil {
				return
			}
			r.ns = append(r.ns, ns)
		}
	})
	r.AllocsPerPacket = perUnit(allocs, rounds*packets)
	return err
}

// putFrame makes a copy of frame number i of the batch.
func (l *lab) putFrame(i int, frame []byte) {
	mem := l.chunks[l.next]
	if l.next++; l.next == len(l.chunks) {
		l.next = 0
	}
	f := &l.batch.Frames[i]
	f.Mem, f.Start, f.End = mem, headroom, headroom+copy(mem[headroom:], frame)
	f.Port, f.Hops, f.Noted = 0, 0, false
}
