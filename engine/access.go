package engine

import (
	"context"
	"time"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/api"
	"sluice/pipeline/service"
)

// AccessLists implements api.AccessControl.
func (e *Engine) AccessLists(context.Context) (api.AccessLists, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.access.Describe(e.cfg), nil
}

// SetAccess implements api.AccessControl.
func (e *Engine) SetAccess(ctx context.Context, r api.AccessRequest) (entry api.AccessEntry, err error) {
	if err := r.Check(); err != nil {
		return entry, err
	}
	return entry, e.changeAccess(ctx, func() (next accesslist.Entries, err error) {
		of := service.Key{}
		if r.Service != "" {
			s, err := e.findService(r.Service)
			if err != nil {
				return nil, err
			}
			of = s.Key
		}
		next, entry, err = e.access.Set(e.cfg, of, r, time.Now())
		return next, err
	})
}

// ClearAccess implements api.AccessControl.
func (e *Engine) ClearAccess(ctx context.Context, q api.AccessQuery) (cleared []api.AccessEntry, err error) {
	return cleared, e.changeAccess(ctx, func() (next accesslist.Entries, err error) {
		next, cleared, err = e.access.Clear(e.cfg, q)
		return next, err
	})
}

// changeAccess makes what change returns the entries in force, or changes nothing. change is called
// with mu held.
func (e *Engine) changeAccess(ctx context.Context, change func() (accesslist.Entries, error)) error {
	if err := e.begin(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	next, err := change()
	if err == nil {
		err = e.publishAccess(e.cfg, next)
	}
	e.mu.Unlock()
	if err == nil {
		next.Save(e.store)
	}
	e.changeMu.Unlock()
	if err != nil {
		return err
	}
	return e.takenUp(ctx)
}

// publishAccess publishes tables with other lists. The caller holds mu.
func (e *Engine) publishAccess(cfg *conf.Config, next accesslist.Entries) error {
	if e.closed {
		return errClosed
	}
	u := e.present()
	u.config, u.access = cfg, next
	if err := e.publish(&u); err != nil {
		return err
	}
	e.wake()
	return nil
}

// ReloadAccess implements api.AccessControl.
func (e *Engine) ReloadAccess(ctx context.Context) (result api.ReloadResult, err error) {
	if err := e.begin(ctx); err != nil {
		return result, err
	}
	cfg, _ := e.current()
	next, err := cfg.ReadLists()
	if err != nil {
		e.changeMu.Unlock()
		return result, err
	}
	for _, c := range conf.Diff(cfg, next) {
		result.Changes = append(result.Changes, c.Text)
	}
	if len(result.Changes) > 0 {
		e.mu.Lock()
		err = e.publishAccess(next, e.access)
		e.mu.Unlock()
	}
	e.changeMu.Unlock()
	if err != nil {
		return api.ReloadResult{}, err
	}
	return result, e.takenUp(ctx)
}

// endAccess publishes tables without the entries that are over at the given time.
func (e *Engine) endAccess(now time.Time) {
	e.changeMu.Lock()
	defer e.changeMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	next, over := e.access.Without(func(entry accesslist.Entry) bool { return entry.Over(now) })
	if len(over) == 0 || e.closed {
		return
	}
	if err := e.publishAccess(e.cfg, next); err != nil {
		e.log.Error("tables could not follow the end of an access entry", "event", "tables_failed", "error", err)
		return
	}
	next.Save(e.store)
	for _, entry := range over {
		e.log.Info("access: the time of a prefix is over", "event", "access_over", "prefix", entry.Prefix.String())
	}
}
