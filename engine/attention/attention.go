// Package attention finds what an operator should act on: for `sluice status`, its exit code, the
// page and top. Everything here is a function of its arguments.
package attention

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/pipeline/service"
)

// maxChanges is how many changes that wait for a restart are told one by one.
const maxChanges = 3

// Of returns what needs attention, one sentence each. They have no durations, so that they are
// equal as long as nothing changes.
func Of(s *api.Status) []string {
	out := []string{}
	if !s.Reload.OK {
		out = append(out, "the last reload failed, generation "+fmt.Sprint(s.Config.Generation)+" still runs: "+s.Reload.Error)
	}
	if p := s.Pending; p != nil {
		out = append(out, fmt.Sprintf("generation %d waits for its confirm and is replaced in %s: run sluice confirm or sluice rollback",
			p.Generation, time.Duration(p.LeftS*float64(time.Second)).Round(time.Second)))
	}
	if n := len(s.Restart); n > 0 {
		text := strings.Join(s.Restart[:min(n, maxChanges)], ", ")
		if n > maxChanges {
			text += fmt.Sprintf(" and %d more", n-maxChanges)
		}
		out = append(out, "waits for a restart: "+text)
	}
	out = append(out, api.AlarmTexts(s.Alarms)...)
	if text := ofBackends(s); text != "" {
		out = append(out, text)
	}
	if s.StateErr != "" {
		out = append(out, "overrides and former configurations are kept in memory only: "+s.StateErr)
	}
	return out
}

// ofBackends returns a sentence about the backends that are down, unless an alarm names the only
// one.
func ofBackends(s *api.Status) string {
	named := slices.ContainsFunc(s.Alarms, func(a api.Alarm) bool { return a.Kind == api.AlarmUnreachable })
	if len(s.Down) == 0 || s.Backends.Down == 1 && named {
		return ""
	}
	first := s.Down[0]
	text := "backend " + first.Backend + " of service " + first.Service
	if s.Backends.Down == 1 {
		return text + " is " + first.StateName + ": " + first.Why
	}
	return "backends " + s.Backends.String() + ", for example " + text + ": " + first.Why
}

// Backends counts the backends of a configuration and returns those that are down, at most
// api.MaxDown. now must be a State of it, and latest returns the newest result of a backend's
// check.
func Backends(cfg *conf.Config, now *policy.State, latest func(service.BackendID) (health.State, bool)) (counts api.BackendCounts, down []api.DownBackend) {
	for i := range cfg.Services {
		for _, b := range now.Backends(i)[:len(cfg.Services[i].Backends)] {
			counts.Add(b.State, b.Protected != "")
			if b.State != policy.Down || len(down) == api.MaxDown {
				continue
			}
			if check, ok := latest(b.ID); ok {
				b = b.Refreshed(check)
			}
			told := api.Backend{State: b.State, Protected: b.Protected != "", Reason: b.Reason, LastError: b.Check.Last}
			down = append(down, api.DownBackend{
				Service: cfg.Services[i].Name, Backend: b.ID.Backend.String(), StateName: api.StateName(told), Protected: told.Protected,
				SinceS: time.Since(b.Since).Seconds(), Why: api.Why(told),
			})
		}
	}
	return counts, down
}
