package engine

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"sluice/engine/health"
	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/engine/takeover"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// remember reads what the former process knew of backends, and returns its seed, so that its
// connections belong to the same workers; without one, a random seed.
func (e *Engine) remember() flow.Seed {
	if keeper, ok := e.platform.(platform.Keeper); ok {
		e.formerDown = takeover.Health(keeper)
		if seed, found := takeover.Seed(keeper); found {
			return seed
		}
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	return flow.Seed{A: binary.LittleEndian.Uint64(random[:8]), B: binary.LittleEndian.Uint64(random[8:])}
}

// formerHealth returns the state of a backend that was down in the former process.
func (e *Engine) formerHealth(id service.BackendID) (health.State, bool) {
	s, known := e.formerDown[id]
	return s, known
}

// keepHealth makes it known to the next process which backends are down.
func (e *Engine) keepHealth(results map[service.BackendID]health.State) {
	if keeper, ok := e.platform.(platform.Keeper); ok {
		if err := takeover.KeepHealth(keeper, results); err != nil {
			e.log.Warn("the next process will not know which backends are down", "event", "keep_failed", "error", err)
		}
	}
}

// takeOver gives the workers, which do not run yet, the connections of the former process, if the
// platform has them. Without them the engine starts all the same.
func (e *Engine) takeOver() {
	keeper, ok := e.platform.(platform.Keeper)
	if !ok {
		return
	}
	began := time.Now()
	counts, err := takeover.Restore(keeper, e.compiled.State, e.tables.Load(), e.workers, &e.seed)
	if err != nil {
		e.log.Warn("connections of the former process are lost", "event", "takeover_failed", "error", err)
	} else if counts != (takeover.Counts{}) {
		e.log.Info("connections of the former process were taken over", "event", "takeover",
			"restored", counts.Restored, "lost", counts.Lost, "took", time.Since(began).Round(time.Microsecond))
	}
	e.keepNumbersOf(keeper, &e.compiled)
	e.formerDown = nil // checks have begun
	if err := keeper.EndFormer(); err != nil {
		e.log.Warn("memory of the former process is not freed", "error", err)
	}
}

// keepNumbers makes the numbers of tables known to the next process, if they are others than those
// before. It is called before workers can use them.
func (e *Engine) keepNumbers(next *tables.Result) {
	if keeper, ok := e.platform.(platform.Keeper); ok && e.workers != nil && !next.SameNumbers(e.compiled.State) {
		e.keepNumbersOf(keeper, next)
	}
}

func (e *Engine) keepNumbersOf(keeper platform.Keeper, r *tables.Result) {
	if err := takeover.Keep(keeper, r.State, r.Tables, e.cores, e.seed); err != nil {
		e.log.Warn("connections will not outlive this process", "event", "keep_failed", "error", err)
	}
}
