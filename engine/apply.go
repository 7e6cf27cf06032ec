package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/state"
)

// pending is a configuration that waits for its Confirm.
type pending struct {
	now      state.Generation // the running one
	before   state.Generation // comes back without a confirm
	cfg      *conf.Config     // of before
	restart  []string         // changes that waited for a restart before
	deadline time.Time
}

// Apply implements api.Changes.
func (e *Engine) Apply(ctx context.Context, r api.ApplyRequest) (result api.ApplyResult, err error) {
	err = e.changeConfig(ctx, func() error {
		result, err = e.apply(ctx, r)
		return err
	})
	return result, err
}

func (e *Engine) apply(ctx context.Context, r api.ApplyRequest) (result api.ApplyResult, err error) {
	if e.opts.File == "" || e.opts.Parse == nil {
		return result, errNoFile
	}
	if err := e.notWaiting(); err != nil {
		return result, err
	}
	cfg, warnings, err := e.opts.Parse(r.File.Name, []byte(r.File.Text))
	if err != nil {
		return result, e.nothingChanged(err)
	}
	if err := state.CanReplace(e.opts.File); err != nil {
		return result, fmt.Errorf("nothing can be applied, because %s can't be replaced: %w", e.opts.File, err)
	}
	before, ran := e.current()
	restart := e.restart // changes under changeMu only
	if result.ReloadResult, err = e.replace(ctx, cfg, warnings, r.Force); err != nil {
		return result, e.nothingChanged(hintForce(err, "sluice apply --force"))
	}
	g := e.generations.Next(r.File.Text, "apply")
	if r.ConfirmS > 0 {
		e.setPending(&pending{now: g, before: ran, cfg: before, restart: restart, deadline: time.Now().Add(seconds(r.ConfirmS))})
		result.Generation, result.Pending = g.Number, e.describePending()
		return result, nil
	}
	if err := state.ReplaceConfig(e.opts.File, r.File.Text); err != nil {
		return api.ApplyResult{}, errors.Join(err, e.restore(before, restart))
	}
	result.Changes = append(result.Changes, e.yieldWeights()...)
	e.storeGeneration(g)
	result.Generation = g.Number
	return result, nil
}

// Confirm implements api.Changes.
func (e *Engine) Confirm(ctx context.Context) (result api.ApplyResult, err error) {
	if err := e.begin(ctx); err != nil {
		return result, err
	}
	defer e.changeMu.Unlock()
	p := e.pending
	if p == nil {
		return result, stateError{errors.New("no configuration waits for a confirm")}
	}
	if err := state.ReplaceConfig(e.opts.File, p.now.Text); err != nil {
		return result, fmt.Errorf("not confirmed; the former configuration comes back at %s: %w", p.deadline.Format(time.TimeOnly), err)
	}
	e.setPending(nil)
	result.Changes = e.yieldWeights()
	e.storeGeneration(p.now)
	e.recordReload(nil)
	result.Generation = p.now.Number
	return result, nil
}

// setPending makes p wait for its Confirm and its generation the running one. A nil p ends the
// wait.
func (e *Engine) setPending(p *pending) {
	e.mu.Lock()
	if e.pending = p; p != nil {
		e.generation, e.loaded = p.now, time.Now()
	}
	e.mu.Unlock()
	e.wake()
}

// notWaiting returns an error if a configuration waits for its Confirm.
func (e *Engine) notWaiting() error {
	if p := e.pending; p != nil {
		return stateError{fmt.Errorf("generation %d waits for its confirm until %s: run sluice confirm or sluice rollback first",
			p.now.Number, p.deadline.Format(time.TimeOnly))}
	}
	return nil
}

// describePending returns the configuration that waits for its Confirm, or nil.
func (e *Engine) describePending() *api.Pending {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pending.describe()
}

func (p *pending) describe() *api.Pending {
	if p == nil {
		return nil
	}
	return &api.Pending{Generation: p.now.Number, Deadline: p.deadline.Round(0), LeftS: max(0, time.Until(p.deadline).Seconds())}
}

// expire returns to the configuration before the one that waits for its Confirm, and returns what
// that changed.
func (e *Engine) expire() (changes []string, err error) {
	p := e.pending
	now, _ := e.current()
	if err := e.restore(p.cfg, p.restart); err != nil {
		return nil, err
	}
	for _, c := range conf.Diff(now, p.cfg) {
		changes = append(changes, c.Text)
	}
	e.mu.Lock()
	e.pending, e.generation, e.loaded = nil, p.before, time.Now()
	e.mu.Unlock()
	e.wake()
	return changes, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
