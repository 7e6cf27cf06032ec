package engine

import (
	"context"
	"os"
	"time"

	"sluice/engine/api"
	"sluice/engine/attention"
	"sluice/engine/platform"
	"sluice/engine/state"
)

// Status implements api.Changes. It waits for no worker.
func (e *Engine) Status(ctx context.Context) (api.Status, error) {
	alarms, err := e.Alarms(ctx)
	if err != nil {
		return api.Status{}, err
	}
	e.mu.Lock()
	out := api.Status{
		Version: e.opts.Version, UptimeS: time.Since(e.started).Seconds(), Workers: len(e.workers.All),
		Config: api.ConfigStatus{
			File: e.opts.File, Generation: e.generation.Number, Loaded: e.loaded.Round(0), SHA256: e.generation.SHA256,
			Services: len(e.cfg.Services),
		},
		Reload:    api.ReloadStatus{OK: e.reloaded.err == nil, At: e.reloaded.at.Round(0)},
		Pending:   e.pending.describe(),
		Takeover:  e.takenOver(),
		Restart:   e.restart,
		Alarms:    alarms,
		Overrides: e.listOverrides(),
		StateDir:  e.store.Dir(),
	}
	out.Backends, out.Down = attention.Backends(e.cfg, e.health.policy, e.prober.State)
	out.Config.Backends = out.Backends.Total
	for i := range e.cfg.Services {
		if p := e.pressureOn(e.cfg.Services[i].Key, e.cfg.Services[i].Name); p != nil {
			out.Pressure = append(out.Pressure, *p)
		}
		if f := e.firstOf(e.cfg.Services[i].Key, e.cfg.Services[i].Name); f != nil {
			out.FirstPackets = append(out.FirstPackets, *f)
		}
	}
	if e.reloaded.err != nil {
		out.Reload.Error = e.reloaded.err.Error()
	}
	e.mu.Unlock()
	if err := e.store.Err(); err != nil {
		out.StateErr = err.Error()
	}
	out.Config.FileDiffers = out.Pending == nil && differs(out.Config)
	out.Attention = attention.Of(&out)
	return out, nil
}

// takenOver returns what this engine has from a former process.
func (e *Engine) takenOver() *api.Takeover {
	var t api.Takeover
	c := e.takeover.Taken()
	if c != nil {
		t.Connections, t.Lost, t.LostInCrash = c.Restored, c.Lost, c.Frames
	}
	failed := e.takeover.Err()
	if failed != nil {
		t.ConnectionsError = failed.Error()
	}
	heir, _ := e.platform.(platform.Heir)
	if heir == nil || heir.Inherited() == nil {
		if c == nil && failed == nil {
			return nil
		}
		return &t
	}
	found := heir.Inherited()
	t.Queues, t.AwayS, t.Received, t.Discarded = found.Queues, found.Away.Seconds(), found.Received, found.Discarded
	t.Sending, t.Repaired = found.Sending, found.Repaired
	if found.Err != nil {
		t.Error = found.Err.Error()
	}
	return &t
}

// differs reports whether the daemon's file is missing or differs from the running configuration.
func differs(c api.ConfigStatus) bool {
	if c.File == "" {
		return false
	}
	text, err := os.ReadFile(c.File)
	return err != nil || state.Digest(string(text)) != c.SHA256
}
