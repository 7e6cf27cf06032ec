package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/conf"
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
	sources, first, err := e.answers.TakeFull(ctx)
	if err != nil {
		return // the workers are being stopped
	}
	e.mu.Lock()
	quiet := len(sources) == 0 && !pressure.Many(first) && !e.pressure.Any()
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
	for _, c := range e.pressure.StepFirst(counts, first, e.isTCP) {
		e.logFirst(&c)
	}
}

// numbered returns the service with a number, the zero value if there is none. The caller holds mu.
func (e *Engine) numbered(number uint32) (s conf.Service) {
	if all := e.compiled.Services(); int(number) < len(all) {
		s = all[number]
	}
	return s
}

func (e *Engine) isTCP(number uint32) bool { return e.numbered(number).Key.Protocol == service.TCP }

// logFirst logs the begin or end of a flood of first packets at a service. The caller holds mu.
func (e *Engine) logFirst(c *pressure.FirstChange) {
	name := e.numbered(c.Service).Name
	if c.Ended {
		e.log.Info("alarm ended", "event", "alarm_ended", "kind", api.AlarmFirst, "service", name,
			"after", c.Last.Sub(c.Since).Round(time.Second).String())
		return
	}
	e.log.Warn("alarm raised", "event", "alarm_raised", "kind", api.AlarmFirst, "service", name, "text", firstText,
		"per second", fmt.Sprintf("%.0f", c.PerSecond), "alone", fmt.Sprintf("%.0f%%", 100*c.Alone),
		"busiest", strings.Join(busiest(c.Sources), " "))
}

// firstText is the text of the alarm.
const firstText = "most SYNs are the only packet of their client: they are forged, or the backends do not answer; " +
	"`sluice status` shows how many, and where from"

// firstOf describes the first packets of a service, nil if they are not many. The caller holds mu.
func (e *Engine) firstOf(key service.Key, name string) *api.FirstPackets {
	f, many := e.pressure.FirstOf(e.compiled.Number(key))
	if !many {
		return nil
	}
	return &api.FirstPackets{
		Service: name, SinceS: time.Since(f.Since).Seconds(), PerSecond: f.PerSecond, Alone: f.Alone, Flood: f.Flood, Sources: sources(f.Sources),
	}
}

// sources returns prefixes as the API has them.
func sources(all []pressure.Share) []api.Source {
	out := make([]api.Source, len(all))
	for i, of := range all {
		out[i] = api.Source{Prefix: of.Prefix.String(), Share: of.Share}
	}
	return out
}

// logPressure logs the begin or end of the pressure on a service. The caller holds mu.
func (e *Engine) logPressure(c *pressure.Change) {
	name := e.numbered(c.Service).Name
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
	return &api.Pressure{
		Service: name, SinceS: time.Since(s.Since).Seconds(), PerSecond: s.PerSecond,
		FoundFull: s.FoundFull, Displacing: s.Displacing(), Refused: s.Refused, Untracked: s.Untracked, Sources: sources(s.Sources),
	}
}
