package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/plan"
	"sluice/engine/state"
	"sluice/pipeline/service"
)

// A configuration becomes the running one in one of four ways: the daemon's file is read again
// (Reload), another one takes its place (Apply), an earlier one comes back (Rollback), or the time
// of an Apply is over before its Confirm came. All go through take, one after the other: whoever
// changes anything holds Engine.changing from begin to end.

// pending is a configuration that waits for its Confirm.
type pending struct {
	now      state.Generation // runs
	before   state.Generation // ran before, and does again when nobody confirms
	cfg      *conf.Config
	deadline time.Time
}

// reloaded is how the last attempt to change the configuration ended. Guarded by mu.
type reloaded struct {
	at  time.Time
	err error
}

// outOfTurn is an error that says nothing about a configuration: what was asked for can't be, or
// not now.
type outOfTurn struct{ error }

// errNoFile is for daemons that were not started from a file.
var errNoFile = outOfTurn{errors.New("this daemon was not started from a file")}

// Reload implements api.Control.
func (e *Engine) Reload(_ context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	result, err := e.reload(o)
	e.noteReload(err)
	return result, err
}

func (e *Engine) reload(o api.ReloadOptions) (api.ReloadResult, error) {
	if e.opts.Load == nil {
		return api.ReloadResult{}, errNoFile
	}
	if err := e.notWaiting(); err != nil {
		return api.ReloadResult{}, err
	}
	cfg, warnings, err := e.opts.Load()
	if err != nil {
		return api.ReloadResult{}, err
	}
	result, err := e.take(cfg, warnings, o.Force)
	err = hint(err, "sluice reload --force")
	if err == nil {
		result.Changes = append(result.Changes, e.yieldWeights()...)
		e.keep(e.generations.Next(cfg.Text, "reload"))
	}
	return result, err
}

// Apply implements api.Changes.
func (e *Engine) Apply(_ context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	result, err := e.apply(r)
	e.noteReload(err)
	return result, err
}

func (e *Engine) apply(r api.ApplyRequest) (result api.ApplyResult, err error) {
	if e.opts.File == "" || e.opts.Parse == nil {
		return result, errNoFile
	}
	if err := e.notWaiting(); err != nil {
		return result, err
	}
	cfg, warnings, err := e.opts.Parse(r.File.Name, []byte(r.File.Text))
	if err != nil {
		return result, err
	}
	if err := state.CanReplace(e.opts.File); err != nil {
		return result, fmt.Errorf("%s can't be replaced, so that nothing can be applied to it: %w", e.opts.File, err)
	}
	before, ran := e.runs()
	if result.ReloadResult, err = e.take(cfg, warnings, r.Force); err != nil {
		return result, hint(err, "sluice apply --force")
	}
	g := e.generations.Next(r.File.Text, "apply")
	if r.ConfirmS > 0 {
		e.hold(&pending{now: g, before: ran, cfg: before, deadline: time.Now().Add(seconds(r.ConfirmS))})
		result.Generation, result.Pending = g.Number, e.waiting()
		return result, nil
	}
	if err := state.ReplaceConfig(e.opts.File, r.File.Text); err != nil {
		return api.ApplyResult{}, errors.Join(err, e.takeBack(before))
	}
	result.Changes = append(result.Changes, e.yieldWeights()...)
	e.keep(g)
	result.Generation = g.Number
	return result, nil
}

// Confirm implements api.Changes.
func (e *Engine) Confirm(context.Context) (result api.ApplyResult, err error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	p := e.pending
	if p == nil {
		return result, outOfTurn{errors.New("nothing waits for a confirm")}
	}
	if err := state.ReplaceConfig(e.opts.File, p.now.Text); err != nil {
		return result, fmt.Errorf("not confirmed, the former configuration comes back at %s: %w", p.deadline.Format(time.TimeOnly), err)
	}
	e.hold(nil)
	result.Changes = e.yieldWeights()
	e.keep(p.now)
	e.noteReload(nil)
	result.Generation = p.now.Number
	return result, nil
}

// Rollback implements api.Changes.
func (e *Engine) Rollback(_ context.Context, number int) (api.ApplyResult, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	result, err := e.rollback(number)
	e.noteReload(err)
	return result, err
}

func (e *Engine) rollback(number int) (result api.ApplyResult, err error) {
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
	_, running := e.runs()
	g, err := e.generations.Find(number, running)
	if err != nil {
		return result, outOfTurn{err}
	}
	cfg, warnings, err := e.opts.Parse(fmt.Sprintf("generation %d", g.Number), []byte(g.Text))
	if err != nil {
		return result, err
	}
	if result.ReloadResult, err = e.take(cfg, warnings, true); err != nil {
		return result, err
	}
	if err := state.ReplaceConfig(e.opts.File, g.Text); err != nil {
		result.Warnings = append(result.Warnings, err.Error()+": the next reload or start brings back what is in it")
	}
	result.Changes = append(result.Changes, e.yieldWeights()...)
	e.keep(e.generations.Next(g.Text, "rollback"))
	_, running = e.runs()
	result.Generation = running.Number
	return result, nil
}

// Generations implements api.Changes.
func (e *Engine) Generations(context.Context) ([]api.Generation, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	_, running := e.runs()
	out := []api.Generation{}
	for _, g := range e.generations.List() {
		out = append(out, api.Generation{Number: g.Number, Loaded: g.Loaded.Round(0), Cause: g.Cause, SHA256: g.SHA256, Running: g.Number == running.Number})
	}
	return out, nil
}

// take makes cfg the running configuration, or changes nothing, and says what that changed.
func (e *Engine) take(cfg *conf.Config, warnings []conf.Problem, force bool) (result api.ReloadResult, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, w := range warnings {
		result.Warnings = append(result.Warnings, w.Error())
	}
	if !force {
		if err := plan.Guard(e.cfg, cfg, e.reloaded.err != nil); err != nil {
			return result, err
		}
	}
	for _, c := range conf.Diff(e.cfg, cfg) {
		if c.Restart {
			result.Warnings = append(result.Warnings, c.Text+": takes effect at the next start")
		} else {
			result.Changes = append(result.Changes, c.Text)
		}
	}
	result.Warnings = append(result.Warnings, e.comeBack(cfg)...)
	if err := e.adopt(asRunning(cfg, e.cfg)); err != nil {
		return api.ReloadResult{}, err
	}
	return result, nil
}

// hint adds to the refusal of a file how it is taken all the same.
func hint(err error, command string) error {
	if errors.As(err, new(plan.Suspicious)) {
		return errors.Join(err, errors.New("if that is meant: "+command))
	}
	return err
}

// comeBack names the backends that come with an override that was set before. The caller holds mu.
func (e *Engine) comeBack(cfg *conf.Config) (warnings []string) {
	there := make(map[service.BackendID]bool)
	for name := range e.cfg.EachBackend() {
		there[name] = true
	}
	names := serviceNames(cfg)
	for name := range cfg.EachBackend() {
		if o, set := e.overrides[name]; set && !there[name] {
			warnings = append(warnings, fmt.Sprintf("service %s: backend %s comes with what was set at run time before: %s; sluice overrides shows it",
				names[name.Service], name.Backend, o.Kind()))
		}
	}
	return warnings
}

// takeBack makes a configuration that ran before run again.
func (e *Engine) takeBack(cfg *conf.Config) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.adopt(cfg)
}

// yieldWeights has the weights set at run time yield to those of a configuration that is there to
// stay.
func (e *Engine) yieldWeights() (yielded []string) {
	e.mu.Lock()
	e.overrides, yielded = e.overrides.Yield(e.cfg)
	e.mu.Unlock()
	if len(yielded) > 0 {
		e.saveOverrides()
	}
	return yielded
}

// keep makes g the running generation and has it outlive the daemon.
func (e *Engine) keep(g state.Generation) {
	e.mu.Lock()
	if g.Number != e.generation.Number {
		e.generation, e.loaded = g, time.Now()
	}
	e.mu.Unlock()
	e.generations.Add(g)
}

// runs is what runs.
func (e *Engine) runs() (*conf.Config, state.Generation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg, e.generation
}

// noteReload remembers how an attempt to change the configuration ended.
func (e *Engine) noteReload(err error) {
	if errors.As(err, new(outOfTurn)) {
		return
	}
	e.mu.Lock()
	e.reloaded = reloaded{time.Now(), err}
	e.mu.Unlock()
}

// hold has a configuration wait for its Confirm, or, with nil, ends the wait. The generation that
// runs changes with it.
func (e *Engine) hold(p *pending) {
	e.mu.Lock()
	if e.pending = p; p != nil {
		e.generation, e.loaded = p.now, time.Now()
	}
	e.mu.Unlock()
	e.wake()
}

// notWaiting says what has to be decided before anything else can be changed.
func (e *Engine) notWaiting() error {
	if p := e.pending; p != nil {
		return outOfTurn{fmt.Errorf("generation %d waits for its confirm until %s: sluice confirm, or sluice rollback, comes first",
			p.now.Number, p.deadline.Format(time.TimeOnly))}
	}
	return nil
}

// waiting describes what waits for its Confirm; nil: nothing.
func (e *Engine) waiting() *api.Pending {
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

// expire brings back what ran before the configuration that waits for its Confirm, and says what
// that changed.
func (e *Engine) expire() (changes []string, err error) {
	p := e.pending
	now, _ := e.runs()
	if err := e.takeBack(p.cfg); err != nil {
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
		e.log.Info("set at run time and still in force", "event", "override_restored", "service", o.Service, "backend", o.Backend, "state", o.State, "configured", o.Configured)
	}
	e.keep(e.generations.Next(cfg.Text, "start"))
	e.noteReload(nil)
}
