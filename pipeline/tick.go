package pipeline

import "sluice/pipeline/conn"

// sweepRoundMs is how long a sweep of the whole table takes: by so much, at most, does an entry that
// nobody looks at outlive its time.
const sweepRoundMs = 8_000

// Tick does the housekeeping that time brings: the share of the sweep that elapsedMs asks for. It looks at
// maxSlots at most, so that no batch waits long for it. t is what the next Process call would be given.
func (p *Processor) Tick(t *Tables, nowMs, elapsedMs uint32, maxSlots int) {
	if p.now = nowMs; p.t != t {
		p.adopt(t)
	}
	for _, table := range []*conn.Table{p.v4, p.v6} {
		n := int(uint64(table.SweepSlots()) * uint64(min(elapsedMs, sweepRoundMs)) / sweepRoundMs)
		table.Sweep(nowMs, min(n, maxSlots))
	}
}

// Live gives the number of entries per family, templates included.
func (p *Processor) Live() (v4, v6 int) { return p.v4.Live(), p.v6.Live() }

// Table gives a family's connection table (4 or 6), for listing. Only the owning goroutine may use it.
func (p *Processor) Table(family int) *conn.Table {
	if family == 6 {
		return p.v6
	}
	return p.v4
}
