package takeover

import (
	"bytes"
	"encoding/gob"

	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// # Counters
//
// Each worker's counters lie in memory that the next process can read (worker.Counted). Beside it
// lies a description: the names of the words in it. So the next process goes on with what it knows
// too, also if its version counts other things.
//
// A worker may be killed in the middle of a batch. Then it has received frames that it counted
// nowhere, or has counted frames as sent that are on no TX ring. Both numbers follow from the
// indices of the rings, if the sockets go on: see lose. So the counters add up afterwards, with
// what was lost as a term.

// description is what the memory of the workers' counters holds.
type description struct {
	Ports                           []string // names
	Totals, Queue, Backend, Service []string // names of the words of each
	Queues                          []int    // by worker
	Backends, Services              int
}

// Names under which a process keeps its description, and what it has counted for backends without
// a number.
const (
	descriptionName = "description"
	pastName        = "past"
)

// Counters returns the function that returns memory for counters; nil: they do not outlive the
// process.
func (p *Process) Counters() func(name string, bytes int) ([]byte, error) {
	if p.keeper == nil {
		return nil
	}
	return p.keeper.Counters
}

// describe returns the description of workers' counters.
func describe(workers *worker.Set, hardware *platform.Hardware) *description {
	d := &description{
		Totals: names[worker.Totals](), Queue: names[worker.QueueTotals](),
		Backend: names[counter.Backend](), Service: names[counter.Service](),
	}
	for _, p := range hardware.Ports {
		d.Ports = append(d.Ports, p.Name)
	}
	for _, w := range workers.All {
		c := w.Counted()
		d.Queues, d.Backends, d.Services = append(d.Queues, len(c.Queues)), len(c.Backends), len(c.Services)
	}
	return d
}

// count makes the workers go on with the counters of the former process, and keeps what the next
// one must know.
func (p *Process) count(r *tables.Result, workers *worker.Set, hardware *platform.Hardware) {
	p.past = make(map[service.BackendID]counter.Backend)
	// what cannot be read is not known
	_ = gob.NewDecoder(bytes.NewReader(p.keeper.Former()[pastName])).Decode(&p.past)
	var d description
	if p.numbers != nil && gob.NewDecoder(bytes.NewReader(p.keeper.Former()[descriptionName])).Decode(&d) == nil {
		c := carrier{description: d, numbers: p.numbers, former: p.keeper.Former(), workers: workers, hardware: hardware, past: p.past}
		c.carry(r)
		p.lost = c.lost
	}
	err := keep(p.keeper, descriptionName, describe(workers, hardware))
	if err == nil {
		err = keep(p.keeper, pastName, p.past)
	}
	if err != nil {
		p.log.Warn("counters will not outlive this process", "event", "keep_failed", "error", err)
	}
}

// Past returns what former processes counted for backends that have no number now.
func (p *Process) Past() map[service.BackendID]counter.Backend { return p.past }

// KeepPast makes the next process know what was counted for backends that have no number.
func (p *Process) KeepPast(past map[service.BackendID]counter.Backend) {
	if p.keeper == nil {
		return
	}
	if err := keep(p.keeper, pastName, past); err != nil {
		p.log.Warn("counters of removed backends will not outlive this process", "event", "keep_failed", "error", err)
	}
}

// carrier is the state of count.
type carrier struct {
	description
	numbers  *Numbers
	former   map[string][]byte
	workers  *worker.Set
	hardware *platform.Hardware
	past     map[service.BackendID]counter.Backend
	lost     uint64
}

// counters is what a worker of the former process has counted.
type counters struct {
	worker.Totals
	queues             []worker.QueueTotals
	backends, services words
}

// carry gives each worker the counters of a former one, or of several.
func (c *carrier) carry(r *tables.Result) {
	var all []*counters
	for i, queues := range c.Queues {
		if mem := c.former[worker.CountersName(i)]; mem != nil {
			all = append(all, c.read(mem, queues))
		}
	}
	whole := true // the indices of all rings are known
	for _, of := range all {
		for i := range of.queues {
			whole = c.settle(&of.queues[i]) && whole
		}
	}
	c.lost = lose(all, whole)
	services, backends := numbersNow(r.State)
	for i, of := range all {
		to := c.workers.All[i%len(c.workers.All)].Counted()
		of.Former.Add(&of.Packets)
		of.Former.ConnClosed = of.Former.ConnOpened // restoring counts them as opened again
		of.Packets = counter.Packets{}
		to.Add(&of.Totals)
		c.carryBackends(of, to, backends)
		c.carryServices(of, to, services, r.Tables)
	}
}

// carryBackends adds the traffic of backends.
func (c *carrier) carryBackends(of *counters, to *worker.Counted, now map[tables.Backend]uint32) {
	r := readerOf[counter.Backend](c.Backend)
	for number, b := range c.numbers.Backends {
		sum := r.read(of.backends.at(int(number), len(c.Backend)))
		if number, ok := now[b]; ok {
			to.Backends[number].Add(&sum)
		} else if sum != (counter.Backend{}) {
			past := c.past[b.ID]
			past.Add(&sum)
			c.past[b.ID] = past
		}
	}
}

// carryServices adds what was refused of services.
func (c *carrier) carryServices(of *counters, to *worker.Counted, now map[service.Key]uint32, t *pipeline.Tables) {
	r := readerOf[counter.Service](c.Service)
	for former, key := range c.numbers.Services {
		number, ok := now[key]
		sum := r.read(of.services.at(int(former), len(c.Service)))
		if !ok || sum.Of == 0 {
			continue
		}
		sum.Of, sum.Spare, sum.SpareMs, sum.Unproven = t.Services[number].Identity(), 0, 0, 0
		to.Services[number].Of = sum.Of
		to.Services[number].Add(&sum)
	}
}

// read reads the counters of a worker.
func (c *carrier) read(mem []byte, queues int) *counters {
	of, rest := new(counters), words(mem)
	of.Totals = readerOf[worker.Totals](c.Totals).read(rest.take(len(c.Totals)))
	for range queues {
		of.queues = append(of.queues, readerOf[worker.QueueTotals](c.Queue).read(rest.take(len(c.Queue))))
	}
	of.backends = rest.take(c.Backends * len(c.Backend))
	of.services = rest.take(c.Services * len(c.Service))
	return of
}

// settle makes what was counted at a queue whole, and adds it to what this process counts there. It
// reports whether the queue goes on, so that the indices of its rings are known.
func (c *carrier) settle(of *worker.QueueTotals) bool {
	for port, hw := range c.hardware.Ports {
		if of.Port >= uint64(len(c.Ports)) || hw.Name != c.Ports[of.Port] {
			continue
		}
		for i := range hw.Queues {
			q := &hw.Queues[i]
			if uint64(q.Number) != of.Number {
				continue
			}
			if q.GoesOn {
				of.Settle(q.RxIndex, q.TxIndex)
			}
			if now := c.queue(port, q.Number); now != nil {
				now.FormerRx += of.FormerRx + of.Rx
				now.FormerTx += of.FormerTx + of.Tx
				now.FormerTxFull += of.FormerTxFull + of.TxFull
			}
			return q.GoesOn
		}
	}
	return false
}

// queue returns what this process counts at a queue.
func (c *carrier) queue(port, number int) *worker.QueueTotals {
	for _, w := range c.workers.All {
		queues := w.Counted().Queues
		for i := range queues {
			if queues[i].Port == uint64(port) && queues[i].Number == uint64(number) {
				return &queues[i]
			}
		}
	}
	return nil
}

// lose makes the workers' counters of packets add up: what was received and not counted was in the
// hands of the process when it was killed, or on its way from one worker to another. It returns how
// many these are. If whole, that holds also for frames that were counted as sent and are on no TX
// ring: first for forwarded ones, then for replies.
func lose(all []*counters, whole bool) uint64 {
	var sum counter.Packets
	var sent uint64
	for _, of := range all {
		of.Packets.Rx, of.Packets.Waiting = 0, 0 // what has waited is lost
		for i := range of.queues {
			of.Packets.Rx += of.queues[i].Rx
			sent += of.queues[i].Tx
		}
		sum.Add(&of.Packets)
	}
	if len(all) == 0 {
		return 0
	}
	if unsent := sum.Forwarded + sum.Replied + sum.Originated - sent; whole && int64(unsent) > 0 {
		for _, count := range []func(*counter.Packets) *uint64{forwarded, replied, originated} {
			unsent = takeBack(all, &sum, count, unsent)
		}
	}
	onTheWay := sum.HandedOut - min(sum.HandedOut, sum.HandedIn)
	takeBack(all, &sum, handedOut, onTheWay)
	counted := sum.Forwarded + sum.Replied + sum.ToKernel + sum.Dropped()
	lost := sum.Rx - min(sum.Rx, counted)
	all[0].Packets.LostInCrash += lost
	return lost
}

func forwarded(p *counter.Packets) *uint64  { return &p.Forwarded }
func replied(p *counter.Packets) *uint64    { return &p.Replied }
func originated(p *counter.Packets) *uint64 { return &p.Originated }
func handedOut(p *counter.Packets) *uint64  { return &p.HandedOut }

// takeBack makes a count n less, over all workers and in their sum, or 0. It returns what is left
// of n.
func takeBack(all []*counters, sum *counter.Packets, count func(*counter.Packets) *uint64, n uint64) (left uint64) {
	for _, of := range all {
		c := count(&of.Packets)
		by := min(n, *c)
		*c -= by
		*count(sum) -= by
		n -= by
	}
	return n
}
