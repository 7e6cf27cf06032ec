package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"sluice/engine/api"
	"sluice/engine/state"
)

// Status implements api.Changes.
func (e *Engine) Status(ctx context.Context) (api.Status, error) {
	alarms, err := e.Alarms(ctx)
	if err != nil {
		return api.Status{}, err
	}
	e.mu.Lock()
	backends := 0
	for _, s := range e.cfg.Services {
		backends += len(s.Backends)
	}
	out := api.Status{
		Version: e.opts.Version, UptimeS: time.Since(e.started).Seconds(), Workers: len(e.workers.All),
		Config: api.ConfigStatus{
			File: e.opts.File, Generation: e.generation.Number, Loaded: e.loaded.Round(0), SHA256: e.generation.SHA256,
			Services: len(e.cfg.Services), Backends: backends,
		},
		Reload:    api.ReloadStatus{OK: e.reloaded.err == nil, At: e.reloaded.at.Round(0)},
		Pending:   e.pending.describe(),
		Alarms:    alarms,
		Overrides: e.listOverrides(),
		StateDir:  e.store.Dir(),
	}
	if e.reloaded.err != nil {
		out.Reload.Error = e.reloaded.err.Error()
	}
	e.mu.Unlock()
	if err := e.store.Err(); err != nil {
		out.StateErr = err.Error()
	}
	out.Config.FileDiffers = out.Pending == nil && differs(out.Config)
	out.Attention = attention(&out)
	return out, nil
}

// differs reports whether the daemon's file is missing or differs from the running configuration.
func differs(c api.ConfigStatus) bool {
	if c.File == "" {
		return false
	}
	text, err := os.ReadFile(c.File)
	return err != nil || state.Digest(string(text)) != c.SHA256
}

// attention returns what an operator should act on.
func attention(s *api.Status) []string {
	out := []string{}
	if !s.Reload.OK {
		out = append(out, "the last reload failed, generation "+fmt.Sprint(s.Config.Generation)+" still runs: "+s.Reload.Error)
	}
	if p := s.Pending; p != nil {
		out = append(out, fmt.Sprintf("generation %d waits for its confirm and is replaced in %s: run sluice confirm or sluice rollback",
			p.Generation, time.Duration(p.LeftS*float64(time.Second)).Round(time.Second)))
	}
	for _, a := range s.Alarms {
		if a.Service != "" {
			a.Text = "service " + a.Service + ": " + a.Text
		}
		out = append(out, a.Text)
	}
	if s.StateErr != "" {
		out = append(out, "overrides and former configurations are kept in memory only: "+s.StateErr)
	}
	return out
}
