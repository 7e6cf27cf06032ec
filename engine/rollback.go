package engine

import (
	"context"
	"fmt"
	"time"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/api"
	"sluice/engine/state"
)

// Rollback implements api.Changes.
func (e *Engine) Rollback(ctx context.Context, number int) (result api.ApplyResult, err error) {
	err = e.changeConfig(ctx, func() error {
		result, err = e.rollback(ctx, number)
		return err
	})
	return result, err
}

func (e *Engine) rollback(ctx context.Context, number int) (result api.ApplyResult, err error) {
	if p := e.pending; p != nil && (number == 0 || number == p.before.Number) {
		result.Changes, err = e.expire()
		result.Generation = p.before.Number
		return result, err
	}
	if e.opts.Parse == nil {
		return result, errNoFile
	}
	if err := e.notWaiting(); err != nil {
		return result, err
	}
	_, running := e.current()
	if number == 0 && e.refusesFile(running) {
		number = running.Number
	}
	g, err := e.generations.Find(number, running)
	if err != nil {
		return result, stateError{err}
	}
	cfg, warnings, err := e.opts.Parse(fmt.Sprintf("generation %d", g.Number), []byte(g.Text))
	if err != nil {
		return result, err
	}
	if result.ReloadResult, err = e.replace(ctx, cfg, warnings, true); err != nil {
		return result, e.nothingChanged(err)
	}
	if g.Number == running.Number {
		result.Changes = append(result.Changes, fmt.Sprintf("%s has the configuration of generation %d again, which runs on", e.opts.File, g.Number))
	}
	if err := state.ReplaceConfig(e.opts.File, g.Text); err != nil {
		result.Warnings = append(result.Warnings, err.Error()+": the next reload or start will read the configuration in it")
	}
	result.Changes = append(result.Changes, e.yieldWeights()...)
	e.storeGeneration(e.generations.Next(g.Text, "rollback"))
	_, running = e.current()
	result.Generation = running.Number
	return result, nil
}

// refusesFile reports whether the daemon's file can't become the running configuration: it is
// invalid, or was refused and is not the running one.
func (e *Engine) refusesFile(running state.Generation) bool {
	if e.opts.Load == nil {
		return false
	}
	cfg, _, err := e.opts.Load()
	if err != nil {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reloaded.err != nil && cfg.Text != running.Text
}

// Generations implements api.Changes.
func (e *Engine) Generations(context.Context) ([]api.Generation, error) {
	e.changeMu.Lock()
	defer e.changeMu.Unlock()
	_, running := e.current()
	out := []api.Generation{}
	for _, g := range e.generations.List() {
		out = append(out, api.Generation{Number: g.Number, Loaded: g.Loaded.Round(0), Cause: g.Cause, SHA256: g.SHA256, Running: g.Number == running.Number})
	}
	return out, nil
}

// storeGeneration makes g the running generation and stores it.
func (e *Engine) storeGeneration(g state.Generation) {
	e.mu.Lock()
	if g.Number != e.generation.Number {
		e.generation, e.loaded = g, time.Now()
	}
	e.mu.Unlock()
	e.generations.Add(g)
}

// current returns the running configuration and its generation.
func (e *Engine) current() (*conf.Config, state.Generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg, e.generation
}

// recall loads what earlier runs of the daemon left in the store. Called by start, before there are
// tables.
func (e *Engine) recall(cfg *conf.Config) {
	e.store = state.Open(cfg.Engine.StateDir, e.opts.File, e.log)
	e.generations = state.LoadGenerations(e.store)
	var yielded []string
	e.overrides, yielded = e.loadOverrides().Yield(cfg)
	for _, text := range yielded {
		e.log.Info(text)
	}
	for _, o := range e.listOverrides() {
		e.log.Info("override restored", "event", "override_restored", "service", o.Service, "backend", o.Backend, "state", o.State, "configured", o.Configured)
	}
	e.access = accesslist.Load(e.store, time.Now())
	e.storeGeneration(e.generations.Next(cfg.Text, "start"))
	e.recordReload(nil)
}
