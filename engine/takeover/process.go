package takeover

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"time"

	"sluice/engine/health"
	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// Process is what one process has from the former one and leaves to the next. Without a
// platform.Keeper its methods do nothing. Nothing here stops an engine: what fails is logged. The
// engine calls the methods one at a time.
type Process struct {
	keeper platform.Keeper // nil: there is none
	log    *slog.Logger

	former  *Numbers // of the former process; nil: there was none, or it was taken over
	err     error    // why former is nil, if there was one
	numbers *Numbers // former, also if it has another layout
	records []byte   // of the former process, if its tables cannot be read; nil: none
	seed    flow.Seed
	down    map[service.BackendID]health.State // in the former process; nil once checks have begun
	workers int                                // 0: they have not been made
	taken   *Counts                            // nil: there was no former process
	past    map[service.BackendID]counter.Backend
	lost    uint64 // frames: see lose
}

// New returns the Process of an engine on a platform.
func New(p platform.Platform, log *slog.Logger) *Process {
	keeper, _ := p.(platform.Keeper)
	return &Process{keeper: keeper, log: log}
}

// Begin reads what the former process knew of backends, and returns its seed, so that its
// connections belong to the same workers; without one, a random seed. The platform is open.
func (p *Process) Begin() flow.Seed {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	p.seed = flow.Seed{A: binary.LittleEndian.Uint64(random[:8]), B: binary.LittleEndian.Uint64(random[8:])}
	if p.keeper != nil {
		p.down = formerHealth(p.keeper)
		p.numbers, p.err = former(p.keeper)
		if p.err == nil && p.numbers != nil {
			p.records, p.err = p.numbers.check(p.keeper)
		}
		if p.err == nil && p.numbers != nil {
			p.former, p.seed = p.numbers, p.numbers.Seed
		}
	}
	return p.seed
}

// Health returns the state of a backend that was down in the former process, until Finish.
func (p *Process) Health(id service.BackendID) (s health.State, was bool) {
	s, was = p.down[id]
	return s, was
}

// Finish gives the workers, which do not run yet, the connections and counters of the former
// process. r is what their tables are.
func (p *Process) Finish(r *tables.Result, workers *worker.Set, hardware *platform.Hardware) {
	p.down, p.workers = nil, len(workers.All)
	if p.keeper == nil {
		return
	}
	p.count(r, workers, hardware)
	p.takeOver(r, workers)
	p.keepNumbers(r)
	if err := p.keeper.EndFormer(); err != nil {
		p.log.Warn("memory of the former process is not freed", "error", err)
	}
}

// takeOver restores the connections of the former process, if there was one.
func (p *Process) takeOver(r *tables.Result, workers *worker.Set) {
	if p.err != nil {
		p.log.Warn("connections of the former process are lost", "event", "takeover_failed", "error", p.err)
	}
	if p.former == nil {
		return
	}
	began := time.Now()
	var counts Counts
	if p.records == nil {
		counts = restore(p.keeper, p.former, r, workers, &p.seed)
	} else if counts, p.err = restoreRecords(p.records, r, workers, &p.seed); p.err != nil {
		p.log.Warn("some connections of the former process may be lost", "event", "takeover_failed", "error", p.err)
	}
	counts.Frames = p.lost
	p.former, p.records, p.taken = nil, nil, &counts
	if counts != (Counts{}) {
		p.log.Info("connections of the former process were taken over", "event", "takeover",
			"restored", counts.Restored, "lost", counts.Lost, "lost_frames", counts.Frames, "took", time.Since(began).Round(time.Microsecond))
	}
}

// Taken returns how many connections were taken over; nil: there was no former process to take them
// over from.
func (p *Process) Taken() *Counts { return p.taken }

// Err returns why connections of the former process were lost; nil: for no other reason than those
// of Counts.
func (p *Process) Err() error { return p.err }

// KeepNumbers makes the numbers of the next tables known to the next process, if they are others
// than those before. It is called before workers can use them.
func (p *Process) KeepNumbers(next, before *tables.Result) {
	if p.keeper != nil && p.workers > 0 && !next.SameNumbers(before.State) {
		p.keepNumbers(next)
	}
}

func (p *Process) keepNumbers(r *tables.Result) {
	if err := keep(p.keeper, numbersName, numbersOf(r, p.workers, p.seed)); err != nil {
		p.log.Warn("connections will not outlive this process", "event", "keep_failed", "error", err)
	}
}

// KeepHealth makes the next process begin with the backends down that are down by their checks.
func (p *Process) KeepHealth(results map[service.BackendID]health.State) {
	if p.keeper == nil {
		return
	}
	down := make(map[service.BackendID]health.State)
	for id, s := range results {
		if !s.Up {
			down[id] = s
		}
	}
	if err := keep(p.keeper, healthName, down); err != nil {
		p.log.Warn("the next process will not know which backends are down", "event", "keep_failed", "error", err)
	}
}
