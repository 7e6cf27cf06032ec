package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/engine/pressure"
	"sluice/engine/tables"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// pressurePause is the time between two looks at what a full table does to services.
const pressurePause = time.Second

// followPressure asks the workers for new connections that found no free entry, and logs when the
// pressure on a service begins and ends, until ctx ends.
func (e *Engine) followPressure(ctx context.Context) {
	defer e.running.Done()
	tick := time.NewTicker(pressurePause)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			e.stepPressure(ctx, now)
		case <-ctx.Done():
			return
		}
	}
}

// stepPressure makes a step of the Watch.
func (e *Engine) stepPressure(ctx context.Context, now time.Time) {
	sources, err := e.answers.TakeFull(ctx)
	if err != nil {
		return // the workers are being stopped
	}
	e.mu.Lock()
	quiet := len(sources) == 0 && !e.pressure.Any()
	e.mu.Unlock()
	var counts []counter.Service
	if !quiet {
		counts = tables.Refusals(e.tables.Load())
		if err := e.answers.Refusals(ctx, counts); api.Answered(err) != nil {
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.pressure.Step(now, counts, sources) {
		e.logPressure(&c)
	}
}

// logPressure logs the begin or end of the pressure on a service. The caller holds mu.
func (e *Engine) logPressure(c *pressure.Change) {
	var name string
	if all := e.compiled.Services(); int(c.Service) < len(all) {
		name = all[c.Service].Name
	}
	if c.Ended {
		e.log.Info("alarm ended", "event", "alarm_ended", "kind", api.AlarmPressure, "service", name,
			"after", c.Last.Sub(c.Since).Round(time.Second).String(), "new connections", c.FoundFull, "displacing", c.Displacing(),
			"refused", c.Refused, "untracked", c.Untracked)
		return
	}
	e.log.Warn("alarm raised", "event", "alarm_raised", "kind", api.AlarmPressure, "service", name, "text", pressureText,
		"per second", fmt.Sprintf("%.0f", c.PerSecond), "displacing", c.Displacing(), "refused", c.Refused, "untracked", c.Untracked,
		"busiest", strings.Join(busiest(c.Sources), " "))
}

// pressureText is the text of the alarm.
const pressureText = "new connections find no free entry in the connection table, or no SNAT port: they take the place of others " +
	"that are unproven or have ended, or are refused; `sluice status` shows how many, and where from"

// busiest returns prefixes with their shares.
func busiest(all []pressure.Share) (words []string) {
	for _, s := range all {
		words = append(words, fmt.Sprintf("%v %.0f%%", s.Prefix, 100*s.Share))
	}
	return words
}

// pressureOn describes the pressure on a service, nil if there is none. The caller holds mu.
func (e *Engine) pressureOn(key service.Key, name string) *api.Pressure {
	s, under := e.pressure.Of(e.compiled.Number(key))
	if !under {
		return nil
	}
	p := &api.Pressure{
		Service: name, SinceS: time.Since(s.Since).Seconds(), PerSecond: s.PerSecond,
		FoundFull: s.FoundFull, Displacing: s.Displacing(), Refused: s.Refused, Untracked: s.Untracked, Sources: []api.Source{},
	}
	for _, of := range s.Sources {
		p.Sources = append(p.Sources, api.Source{Prefix: of.Prefix.String(), Share: of.Share})
	}
	return p
}
