package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/plan"
	"sluice/pipeline/service"
)

// A configuration becomes the running one in one of four ways: the daemon reads its file again
// (Reload), another file replaces it (Apply), an earlier generation comes back (Rollback), or an
// Apply is not confirmed in time (expire). Each holds Engine.changeMu from beginning to end, so
// that they run one after the other.

// reloaded is the result of the last attempt to change the configuration. Guarded by mu.
type reloaded struct {
	at  time.Time
	err error
}

// stateError is an error of the daemon's state, not of a configuration: the request is impossible,
// at least now. It is not recorded as a failed reload.
type stateError struct{ error }

func (e stateError) Unwrap() error { return e.error }

// errNoFile is the error of a daemon that was not started from a file.
var errNoFile = stateError{errors.New("this daemon was not started from a file")}

// Reload implements api.Control.
func (e *Engine) Reload(ctx context.Context, o api.ReloadOptions) (result api.ReloadResult, err error) {
	err = e.changeConfig(ctx, func() error {
		result, err = e.reload(ctx, o)
		return err
	})
	return result, err
}

// changeConfig calls change, which changes the configuration, holding changeMu, records its result
// and waits until the workers have taken the change up.
func (e *Engine) changeConfig(ctx context.Context, change func() error) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	err := change()
	e.recordReload(err)
	e.changeMu.Unlock()
	if err != nil {
		return err
	}
	return e.takenUp(ctx)
}

func (e *Engine) reload(ctx context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	if e.opts.Load == nil {
		return api.ReloadResult{}, errNoFile
	}
	if err := e.notWaiting(); err != nil {
		return api.ReloadResult{}, err
	}
	cfg, warnings, err := e.opts.Load()
	if err != nil {
		return api.ReloadResult{}, e.nothingChanged(err)
	}
	result, err := e.replace(ctx, cfg, warnings, o.Force)
	if err != nil {
		return result, e.nothingChanged(hintForce(err, "sluice reload --force"))
	}
	result.Changes = append(result.Changes, e.yieldWeights()...)
	e.storeGeneration(e.generations.Next(cfg.Text, "reload"))
	return result, nil
}

// nothingChanged adds to why a configuration was refused which one runs.
func (e *Engine) nothingChanged(err error) error {
	_, running := e.current()
	return errors.Join(err, fmt.Errorf("nothing changed, generation %d runs on", running.Number))
}

// replace makes cfg the running configuration and returns what that changed, or changes nothing and
// returns an error.
func (e *Engine) replace(ctx context.Context, cfg *conf.Config, warnings []conf.Problem, force bool) (result api.ReloadResult, err error) {
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
	var restart []string
	for _, c := range conf.Diff(e.cfg, cfg) {
		if c.Restart {
			restart = append(restart, c.Text)
			result.Warnings = append(result.Warnings, c.Text+": takes effect at the next start")
		} else {
			result.Changes = append(result.Changes, c.Text)
		}
	}
	result.Warnings = append(result.Warnings, e.returningOverrides(cfg)...)
	if err := wanted(ctx); err != nil {
		return api.ReloadResult{}, err
	}
	if err := e.adopt(asRunning(cfg, e.cfg)); err != nil {
		return api.ReloadResult{}, err
	}
	e.restart = restart
	return result, nil
}

// hintForce adds to the refusal of a suspicious file the command that accepts it.
func hintForce(err error, command string) error {
	if errors.As(err, new(plan.Suspicious)) {
		return errors.Join(err, errors.New("if this is intended: "+command))
	}
	return err
}

// returningOverrides returns a warning for each new backend with an override from before. The
// caller holds mu.
func (e *Engine) returningOverrides(cfg *conf.Config) (warnings []string) {
	before := make(map[service.BackendID]bool)
	for name := range e.cfg.EachBackend() {
		before[name] = true
	}
	names := serviceNames(cfg)
	for name := range cfg.EachBackend() {
		if o, set := e.overrides[name]; set && !before[name] {
			warnings = append(warnings, fmt.Sprintf("service %s: new backend %s has an override from before: %s; see sluice overrides",
				names[name.Service], name.Backend, o.Kind()))
		}
	}
	return warnings
}

// restore makes a configuration that ran before the running one again. restart is what waited for a
// restart then.
func (e *Engine) restore(cfg *conf.Config, restart []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.adopt(cfg)
	if err == nil {
		e.restart = restart
	}
	return err
}

// yieldWeights drops the run-time weights that yield to new weights in the running configuration.
// Call it only when that configuration is permanent.
func (e *Engine) yieldWeights() (yielded []string) {
	e.mu.Lock()
	e.overrides, yielded = e.overrides.Yield(e.cfg)
	e.mu.Unlock()
	if len(yielded) > 0 {
		e.saveOverrides()
	}
	return yielded
}

// recordReload records the result of an attempt to change the configuration.
func (e *Engine) recordReload(err error) {
	if errors.As(err, new(stateError)) {
		return
	}
	e.mu.Lock()
	e.reloaded = reloaded{time.Now(), err}
	e.mu.Unlock()
}
