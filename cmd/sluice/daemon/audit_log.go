package daemon

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"sluice/engine/api"
)

// auditLog is a Control that logs every change made through it, whether or not all workers have
// taken it up. The engine logs what happens at a deadline.
type auditLog struct {
	api.Control
	logger *slog.Logger
}

func (l auditLog) SetWeight(ctx context.Context, service, backend string, weight int) (api.Backend, error) {
	b, err := l.Control.SetWeight(ctx, service, backend, weight)
	if api.Answered(err) == nil {
		l.logger.Info("weight set", "event", "weight_set", "service", service, "backend", backend, "weight", weight, "state", b.State)
	}
	return b, err
}

func (l auditLog) Reload(ctx context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	result, err := l.Control.Reload(ctx, o)
	if api.Answered(err) != nil {
		l.refused("reload", "config_refused", err)
		return result, err
	}
	l.changed("reload", result)
	l.logger.Info("reloaded", "event", "config_reloaded", "changes", len(result.Changes))
	return result, err
}

// refused logs the lines of an error because of which nothing has changed.
func (l auditLog) refused(verb, event string, err error) {
	for line := range strings.Lines(err.Error()) {
		l.logger.Error(verb + ": " + strings.TrimSpace(line))
	}
	l.logger.Error(verb+" failed, nothing changed", "event", event)
}

func (l auditLog) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	b, err := l.Control.Override(ctx, r)
	if api.Answered(err) == nil {
		attributes := []any{"event", "override_set", "service", r.Service, "backend", r.Backend, "state", b.State}
		if r.DeadlineS > 0 {
			attributes = append(attributes, "deadline", time.Duration(r.DeadlineS*float64(time.Second)))
		}
		words := map[string]string{api.OverrideDrain: "backend drains", api.OverrideDisable: "backend disabled", api.OverrideEnable: "backend enabled"}
		l.logger.Info(words[r.State], attributes...)
	}
	return b, err
}

func (l auditLog) ClearOverrides(ctx context.Context, service, backend string) ([]api.Override, error) {
	cleared, err := l.Control.ClearOverrides(ctx, service, backend)
	for _, o := range cleared {
		l.logger.Info("override cleared", "event", "override_cleared", "service", o.Service, "backend", o.Backend, "was", o.State)
	}
	return cleared, err
}

func (l auditLog) SetAccess(ctx context.Context, r api.AccessRequest) (api.AccessEntry, error) {
	entry, err := l.Control.SetAccess(ctx, r)
	if api.Answered(err) == nil {
		attributes := []any{"event", "access_set", "prefix", entry.Prefix, "action", entry.Action}
		if entry.Service != "" {
			attributes = append(attributes, "service", entry.Service)
		}
		if r.ForS > 0 {
			attributes = append(attributes, "for", time.Duration(r.ForS*float64(time.Second)))
		}
		l.logger.Info("access set", attributes...)
	}
	return entry, err
}

func (l auditLog) ClearAccess(ctx context.Context, q api.AccessQuery) ([]api.AccessEntry, error) {
	cleared, err := l.Control.ClearAccess(ctx, q)
	for _, entry := range cleared {
		l.logger.Info("access cleared", "event", "access_cleared", "prefix", entry.Prefix, "was", entry.Action, "service", entry.Service)
	}
	return cleared, err
}

func (l auditLog) ReloadAccess(ctx context.Context) (api.ReloadResult, error) {
	result, err := l.Control.ReloadAccess(ctx)
	if api.Answered(err) != nil {
		l.refused("access reload", "access_refused", err)
		return result, err
	}
	l.changed("access reload", result)
	l.logger.Info("access lists reloaded", "event", "access_reloaded", "changes", len(result.Changes))
	return result, err
}

func (l auditLog) Apply(ctx context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	result, err := l.Control.Apply(ctx, r)
	return l.applied("apply", result, err, "file", r.File.Name)
}

func (l auditLog) Confirm(ctx context.Context) (api.ApplyResult, error) {
	result, err := l.Control.Confirm(ctx)
	return l.applied("confirm", result, err)
}

func (l auditLog) Rollback(ctx context.Context, generation int) (api.ApplyResult, error) {
	result, err := l.Control.Rollback(ctx, generation)
	return l.applied("rollback", result, err)
}

func (l auditLog) applied(verb string, result api.ApplyResult, err error, attributes ...any) (api.ApplyResult, error) {
	if api.Answered(err) != nil {
		for line := range strings.Lines(err.Error()) {
			l.logger.Error(verb + ": " + strings.TrimSpace(line))
		}
		l.logger.Error(verb+" failed, nothing changed", append(attributes, "event", "config_refused")...)
		return result, err
	}
	l.changed(verb, result.ReloadResult)
	attributes = append(attributes, "changes", len(result.Changes), "generation", result.Generation)
	if p := result.Pending; p != nil {
		attributes = append(attributes, "confirm until", p.Deadline.Format(time.TimeOnly))
	}
	l.logger.Info(verb+" done", append(attributes, "event", "config_changed")...)
	return result, err
}

// changed logs a line per change and warning.
func (l auditLog) changed(verb string, result api.ReloadResult) {
	for _, change := range result.Changes {
		l.logger.Info(verb + ": " + change)
	}
	for _, warning := range result.Warnings {
		l.logger.Warn(verb + ": " + warning)
	}
}
