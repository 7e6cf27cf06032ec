package takeover

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/netip"

	"sluice/engine/records"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline/conn"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// A process that has other connection tables than the former one cannot read those. When the former
// one stops for it, that writes its connections as records beside the tables.

// recordsName is the name under which records are kept.
const recordsName = "records"

// slotsPerBlock is how many slots of a table are examined for one block of records.
const slotsPerBlock = 4096

// KeepRecords keeps the connections for a successor with another layout. The workers are frozen. r
// is what their tables are.
func (p *Process) KeepRecords(layout string, r *tables.Result, workers *worker.Set) error {
	if p.keeper == nil || layout == Layout() {
		return nil
	}
	w := writer(numbersOf(r, p.workers, p.seed))
	out, now := w.Begin(nil), worker.NowMs()
	for _, of := range workers.All {
		for _, family := range []int{4, 6} {
			t := of.Processor().Table(family)
			for cursor, more := uint32(0), true; more; more = cursor != 0 {
				out, cursor = w.Append(out, t, cursor, slotsPerBlock, now)
			}
		}
	}
	return p.keeper.Keep(recordsName, records.End(out, w.Written()))
}

// ForgetRecords is called if the workers go on after KeepRecords: what they do from then on is not
// in the records.
func (p *Process) ForgetRecords() {
	if p.keeper == nil {
		return
	}
	if err := p.keeper.Keep(recordsName, nil); err != nil {
		p.log.Warn("records for the next process are old", "event", "keep_failed", "error", err)
	}
}

// writer returns a Writer for tables with these numbers.
func writer(n *Numbers) *records.Writer {
	services, backends, sources := make([]service.Key, top(n.Services)), make([]records.Backend, top(n.Backends)), make([]netip.Addr, top(n.Sources))
	for number, key := range n.Services {
		services[number] = key
	}
	for number, b := range n.Backends {
		backends[number] = records.Backend(b)
	}
	for number, a := range n.Sources {
		sources[number] = a
	}
	return records.NewWriter(services, backends, sources)
}

// top returns a number above all keys.
func top[K uint8 | uint32, V any](of map[K]V) (n int) {
	for number := range maps.Keys(of) {
		n = max(n, int(number)+1)
	}
	return n
}

// restoreRecords gives the workers the connections in records of the former process. After an error
// some may be missing.
func restoreRecords(data []byte, now *tables.Result, workers *worker.Set, seed *flow.Seed) (Counts, error) {
	r := restorer{tables: now.Tables, workers: workers, seed: seed, nowMs: worker.NowMs()}
	for _, templates := range []bool{true, false} {
		in, err := records.NewReader(bytes.NewReader(data))
		if err != nil {
			return r.Counts, err
		}
		r.numbers = numbersIn(&in.Dictionary)
		r.renumber(now.State)
		for err == nil {
			err = in.Next(r.nowMs, func(e *conn.Entry) {
				if e.IsTemplate() == templates {
					r.one(0, e)
				}
			})
		}
		if !errors.Is(err, io.EOF) {
			return r.Counts, err
		}
	}
	return r.Counts, nil
}

// numbersIn returns what the numbers in records mean. They say nothing of the workers.
func numbersIn(d *records.Dictionary) *Numbers {
	n := &Numbers{Services: make(map[uint32]service.Key), Backends: make(map[uint32]tables.Backend), Sources: make(map[uint8]netip.Addr)}
	for i, key := range d.Services {
		n.Services[uint32(i+1)] = key
	}
	for i, b := range d.Backends {
		n.Backends[uint32(i+1)] = tables.Backend(b)
	}
	for i, a := range d.Sources {
		n.Sources[uint8(i+1)] = a
	}
	return n
}
