package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/tools/pause"
)

// Intervals of watch.
const (
	identifyEvery = time.Second
	usageEvery    = 10 * time.Second
)

// askTimeout bounds one question to the daemon.
const askTimeout = 10 * time.Second

// watch reads what the daemon uses, and where broken connections were, until ctx ends.
func (s *soak) watch(ctx context.Context) {
	for n := 0; pause.For(ctx, identifyEvery) == nil; n++ {
		s.identify(ctx)
		if n%int(usageEvery/identifyEvery) != 0 {
			continue
		}
		u, err := usageOf(s.daemon.Process.PID())
		if err != nil {
			s.fail("the daemon: %v", err)
			return
		}
		s.mu.Lock()
		s.usage = append(s.usage, u)
		t := s.totals
		broken := len(s.broken)
		s.mu.Unlock()
		fmt.Fprintf(s.Out, "%s %d connections, %d open, %d broken; the daemon has %d MiB and %d files\n",
			s.elapsed(), t.Opened, t.Open, broken, u.RSSKiB>>10, u.Files)
	}
}

// lookUps is how many broken connections are looked up one by one at a time.
const lookUps = 20

// identify asks the daemon's table for the backends of connections that broke before their server
// said its name; their entries last for ten seconds at least. Those at dead backends come first,
// with one question for all, and only others are looked up one by one.
func (s *soak) identify(ctx context.Context) {
	s.mu.Lock()
	fresh := s.unnamed
	s.unnamed = nil
	s.mu.Unlock()
	unknown := map[string]*fate{}
	for _, f := range fresh {
		if f.Server == "" || s.timeline.explain(f.Broken, "") == nil {
			unknown[f.Service+" "+f.Local.String()] = f
		}
	}
	if len(unknown) == 0 {
		return
	}
	for _, name := range s.timeline.lately(time.Now().Add(-time.Minute)) {
		for _, b := range s.bed.Backends {
			if b.Name == name {
				s.lookUp(ctx, api.ConnQuery{Backend: b.Addr(4).String()}, unknown)
				s.lookUp(ctx, api.ConnQuery{Backend: b.Addr(6).String()}, unknown)
			}
		}
	}
	left := lookUps
	for _, f := range unknown {
		if len(f.entries) > 0 {
			continue
		}
		if left--; left >= 0 {
			s.lookUp(ctx, api.ConnQuery{Client: f.Local.String()}, unknown)
		}
	}
}

// lookUp adds what the daemon's table answers to the connections that it is about.
func (s *soak) lookUp(ctx context.Context, q api.ConnQuery, unknown map[string]*fate) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conns, err := s.daemon.API.Conns(asking, q)
	if api.Answered(err) != nil {
		return // what is not identified is explained by its time, or fails
	}
	for _, c := range conns {
		key := c.Service + " " + c.Client
		f := unknown[key]
		if f == nil {
			continue
		}
		s.mu.Lock()
		f.entries = append(f.entries, c)
		if f.Server == "" {
			f.backend = s.backendName(c.Backend)
		}
		s.mu.Unlock()
	}
}

// lately lists the backends that were dead at some time since.
func (t *timeline) lately(since time.Time) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.deaths {
		if (d.Back.IsZero() || d.Back.After(since)) && !strings.Contains(strings.Join(names, " "), d.Backend) {
			names = append(names, d.Backend)
		}
	}
	return names
}
