package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"

	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/rings"
)

// twoOwners measures what two workers cost each other: new connections, which take turns and count
// loads together, and established ones with packets that arrive at the wrong worker.
func twoOwners(match *regexp.Regexp, cpus []int, rounds, packets, batch int) (results []result, err error) {
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		if match.MatchString(fmt.Sprintf("owner/%s/4", mode)) {
			r, err := owners(mode, cpus, rounds, packets, batch)
			if err != nil {
				return nil, err
			}
			results = append(results, r)
		}
	}
	if match.MatchString(fmt.Sprintf("new/workers/tun/4/%d", opened)) {
		r, err := openings(cpus, rounds, batch)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// openings is opening for two workers at once, which both open connections to one service: ns of
// each per connection.
func openings(cpus []int, rounds, batch int) (result, error) {
	r := result{Name: "new", Mode: service.TUN.String(), Family: 4, Flows: len(cpus) * opened, Workers: len(cpus)}
	c := newCrew(len(cpus))
	c.own = pipeline.ByReceiver
	var t team
	defer func() { t.close() }()
	for worker := range cpus {
		l, err := newWorkerLab(c, worker, 4, service.TUN, opened, batch)
		if err != nil {
			return r, err
		}
		t = append(t, l)
	}
	step, errs := opened/8, make([]error, len(t))
	for round := range 6 + rounds {
		onCPUs(cpus, func(i int) {
			t[i].times = t[i].times[:0]
			errs[i] = t[i].churn(round*step, step, 10_000, packet.SYN)
		})
		ns := 0.0
		for i, l := range t {
			if errs[i] != nil {
				return r, errs[i]
			}
			ns += l.mean() / float64(len(t))
		}
		if round >= 6 {
			r.ns = append(r.ns, ns)
		}
	}
	r.conclude()
	return r, nil
}

// owners measures two workers that receive packets of all flows, so that half of them belong to the
// other worker and are handed over to it, beside two that receive only their own: ns per packet of
// each worker.
func owners(mode service.Mode, cpus []int, rounds, packets, batch int) (result, error) {
	r := result{Name: "owner", Mode: mode.String(), Family: 4, Flows: len(cpus) * flowsPerWorker, Workers: len(cpus)}
	c := newCrew(len(cpus))
	t := make([]*exchange, len(cpus))
	for worker := range t {
		l, err := newWorkerLab(c, worker, 4, mode, 2*flowsPerWorker, batch)
		if err != nil {
			return r, err
		}
		defer l.close()
		if err := l.own(c, worker, flowsPerWorker); err != nil {
			return r, err
		}
		t[worker] = &exchange{lab: l, out: make([]rings.Desc, 0, batch), in: make([]rings.Desc, batch)}
	}
	for worker, x := range t {
		x.peer = t[1-worker]
		x.push, x.peer.pop = rings.NewSPSC[rings.Desc](chunksInUse / 2)
	}
	var own []float64
	measure := func(shared bool) float64 {
		ns := make([]float64, len(t))
		onCPUs(cpus, func(i int) { ns[i] = t[i].run(shared, packets) })
		return (ns[0] + ns[1]) / 2
	}
	for range rounds {
		own = append(own, measure(false))
		r.ns = append(r.ns, measure(true))
	}
	r.RatioToReceiver = medianRatio(r.ns, own)
	fmt.Printf("owner: %.2f times two workers that receive only their own flows\n", r.RatioToReceiver)
	r.conclude()
	return r, nil
}

// exchange is a lab that hands packets over to another one.
type exchange struct {
	*lab
	peer    *exchange
	push    *rings.Producer[rings.Desc]
	pop     *rings.Consumer[rings.Desc]
	out, in []rings.Desc
}

// run is lab.run with the packets that the peer hands over. With shared, half of the packets that
// arrive are the peer's. It returns the time per packet that arrived, in ns; if the peer ends
// earlier, what is still to be handed over is not processed.
func (x *exchange) run(shared bool, packets int) float64 {
	random := rand.New(rand.NewPCG(1, uint64(len(x.owned))))
	spent := time.Duration(0)
	for done := 0; done < packets; done += x.size {
		first := x.next
		for i := range x.size {
			from := x.owned
			if shared && random.Uint64()&1 == 0 {
				from = x.peer.owned
			}
			x.put(i, from[random.IntN(len(from))], packet.ACK)
		}
		start := time.Now()
		x.proc.Process(x.batch, x.size, x.tables, x.nowMs)
		x.out = x.out[:0]
		for i := range x.size {
			if f := &x.batch.Frames[i]; f.Verdict == pipeline.HandOver {
				x.out = append(x.out, rings.Desc{Addr: uint64((first + i) % chunksInUse), Len: uint32(f.End - f.Start)})
			}
		}
		x.push.Push(x.out) // what does not fit is dropped, as workers do
		n := x.pop.Pop(x.in)
		for i, d := range x.in[:n] {
			f := &x.batch.Frames[i]
			f.Mem, f.Start, f.End = x.peer.chunks[d.Addr], headroom, headroom+int(d.Len)
			f.Port, f.Hops = 0, 1
		}
		if n > 0 {
			x.proc.Process(x.batch, n, x.tables, x.nowMs)
		}
		spent += time.Since(start)
	}
	return float64(spent.Nanoseconds()) / float64(packets)
}
