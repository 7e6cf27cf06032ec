package engine

import (
	"context"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/plan"
	"sluice/pipeline/service"
)

// Plan implements api.Changes.
func (e *Engine) Plan(ctx context.Context, f api.File) (api.Plan, error) {
	next, warnings, err := e.read(f)
	if err != nil {
		return api.Plan{}, err
	}
	if err := ctx.Err(); err != nil { // parsing takes seconds for the largest files
		return api.Plan{}, err
	}
	out, err := plan.Compute(ctx, e.planInput(next))
	if err != nil {
		return api.Plan{}, err
	}
	if out.File = f.Name; f.Text == "" {
		out.File = e.opts.File
	}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.Error())
	}
	return out, nil
}

// read parses the configuration in a request, or loads the daemon's own file if the request has no
// text.
func (e *Engine) read(f api.File) (*conf.Config, []conf.Problem, error) {
	switch {
	case f.Text == "" && e.opts.Load != nil:
		return e.opts.Load()
	case f.Text != "" && e.opts.Parse != nil:
		return e.opts.Parse(f.Name, []byte(f.Text))
	}
	return nil, nil, errNoFile
}

// planInput copies what a plan needs, so that nothing is locked while it is computed.
func (e *Engine) planInput(next *conf.Config) *plan.Input {
	e.mu.Lock()
	defer e.mu.Unlock()
	in := &plan.Input{
		Running: e.cfg, Next: next, LastRefused: e.reloaded.err != nil, Overrides: e.overrides, Down: e.health.policy.Down,
		LastWeights: make(map[service.BackendID]int), Connections: make(map[service.BackendID]uint64),
	}
	for id, b := range e.compiled.Backends() {
		load := e.loads.Of(uint32(id))
		in.Connections[b.ID] += uint64(load.Active) + uint64(load.Inactive)
		in.LastWeights[b.ID] = e.compiled.LastWeight(uint32(id))
	}
	return in
}
