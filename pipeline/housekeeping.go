package pipeline

import "sluice/pipeline/conn"

// sweepRoundMs is how long a sweep of the whole table takes: by so much, at most, does an entry
// that nobody looks at outlive its time.
const sweepRoundMs = 8_000

// HousekeepingBudget is what a worker gives Housekeep: 20 microseconds' worth for each table. More frames may
// come at any moment.
const HousekeepingBudget = 6144

// Housekeep does the housekeeping that time brings: it goes on with the sweep, by the share of a round
// that elapsedMs asks for and what earlier calls left. It ends early when each table has taken half
// the time that looking at so many slots takes, some nanoseconds each, so that no batch waits long
// for it, and reports whether it is behind then. t is what the next Process call would be given.
func (p *Processor) Housekeep(t *Tables, nowMs, elapsedMs uint32, slotTimes int) (behind bool) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	for i, table := range [...]*conn.Table{p.v4, p.v6} {
		slots := uint64(table.SweepSlots())
		owed := min(p.sweepDebt[i]+slots*uint64(min(elapsedMs, sweepRoundMs)), slots*sweepRoundMs)
		owed -= uint64(table.SweepWithin(nowMs, int(owed/sweepRoundMs), slotTimes/2)) * sweepRoundMs
		p.sweepDebt[i], behind = owed, behind || owed >= sweepRoundMs
	}
	return behind
}

// Entries gives the number of entries per family, templates included.
func (p *Processor) Entries() (v4, v6 int) { return p.v4.Len(), p.v6.Len() }

// Table gives a family's connection table (4 or 6), for listing. Only the owning goroutine may use
// it.
func (p *Processor) Table(family int) *conn.Table {
	if family == 6 {
		return p.v6
	}
	return p.v4
}
