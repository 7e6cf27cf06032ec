package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
)

// sweepRoundMs is the duration of a sweep of the whole table: an entry that no packet meets
// outlives its timeout by at most this.
const sweepRoundMs = 8_000

// HousekeepingBudget is the budget of one Housekeep call on a worker: about 20 microseconds for
// each table, since frames may arrive at any moment.
const HousekeepingBudget = 6144

// Housekeep gives the other workers the capacity that this one has no use for, and continues the
// sweep of both tables by the part of a round that elapsedMs milliseconds ask for, plus what
// earlier calls left. It stops early when a table has taken half of budget, in units of the time
// that scanning one slot takes, some nanoseconds; then it reports that it is behind. t is what the
// next Process call would be given. Only the owning goroutine may call it.
func (p *Processor) Housekeep(t *Tables, nowMs, elapsedMs uint32, budget int) (behind bool) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	for i, table := range [...]*conn.Table{p.v4, p.v6} {
		slots := uint64(table.SweepSlots())
		owed := min(p.sweepDebt[i]+slots*uint64(min(elapsedMs, sweepRoundMs)), slots*sweepRoundMs)
		owed -= uint64(table.SweepWithin(nowMs, int(owed/sweepRoundMs), budget/2)) * sweepRoundMs
		p.sweepDebt[i], behind = owed, behind || owed >= sweepRoundMs
	}
	p.shedOld()
	p.syns.housekeep(nowMs)
	p.endWait(p.fragments.Expire(nowMs), counter.Fragment)
	p.share.Shrink()
	return behind
}

// Templates returns the number of persistence templates that bind a client to the backend. Only the
// owning goroutine may call it.
func (p *Processor) Templates(backend uint32) uint32 { return p.templates[backend] }

// Entries returns the number of entries in each family's table, templates included.
func (p *Processor) Entries() (v4, v6 int) { return p.v4.Len(), p.v6.Len() }

// Table returns the connection table of a family (4 or 6), for listing. Only the owning goroutine
// may use it.
func (p *Processor) Table(family int) *conn.Table {
	if family == 6 {
		return p.v6
	}
	return p.v4
}
