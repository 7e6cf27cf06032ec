package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// restTimeout bounds the wait for the end of all disturbance.
const restTimeout = time.Minute

// rest waits until all backends are up and no packet is in flight, and prints what the daemon
// counted.
func (s *soak) rest(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	err := testbed.Poll(waiting, func() error {
		services, err := s.daemon.API.List(waiting)
		for _, service := range services {
			for _, b := range service.Backends {
				if b.State != api.StateUp {
					err = errors.Join(err, fmt.Errorf("%s: %s is %s", service.Name, b.Endpoint(), b.State))
				}
			}
		}
		return err
	})
	if err != nil {
		s.fail("not all backends are up again: %v", err)
	}
	stats, err := s.daemon.Quiet(waiting)
	if err != nil {
		s.fail("%v", err)
	}
	s.printStats(stats)
	for _, w := range stats.Workers {
		if w.Forwarded == 0 || w.HandOversOut == 0 {
			s.fail("worker %d forwarded %d packets and handed %d over", w.Worker, w.Forwarded, w.HandOversOut)
		}
	}
	for _, p := range stats.Ports {
		for _, q := range p.Queues {
			if q.Rx == 0 && p.Name == testbed.Front {
				s.fail("nothing came by queue %d of %s", q.Queue, p.Name)
			}
		}
	}
	for _, name := range []string{"table_full", "snat_exhausted"} {
		if n := stats.Drops[name]; n > 0 {
			s.fail("%d packets were dropped as %s", n, name)
		}
	}
	return nil
}

func (s *soak) printStats(stats api.Stats) {
	fmt.Fprintf(s.Out, "\nrx %d = forwarded %d + replied %d + to the kernel %d + dropped %d + lost in crash %d\n", stats.Rx, stats.Forwarded, stats.Replied, stats.ToKernel, stats.Dropped(), stats.LostInCrash)
	for _, name := range slices.Sorted(maps.Keys(stats.Drops)) {
		if n := stats.Drops[name]; n > 0 {
			fmt.Fprintf(s.Out, "  %-18s %d\n", name, n)
		}
	}
	for _, w := range stats.Workers {
		fmt.Fprintf(s.Out, "worker %d: rx %d, %d handed over, busy %.0f %%, %.1f s at most from one turn to the next\n",
			w.Worker, w.Rx, w.HandOversOut, 100*w.BusyShare, float64(w.GapNs.Max)/1e9)
	}
	for _, p := range stats.Ports {
		fmt.Fprintf(s.Out, "port %s:", p.Name)
		for _, q := range p.Queues {
			fmt.Fprintf(s.Out, " %d", q.Rx)
		}
		fmt.Fprintln(s.Out, " packets received by queue")
	}
	for i, l := range s.losses {
		passed, lost, err := l.Counts()
		if err != nil || passed == 0 || (lost == 0) != (s.Loss == 0) {
			s.fail("loss: %d segments passed and %d were lost: %v", passed, lost, err)
			continue
		}
		fmt.Fprintf(s.Out, "%s: %d of %d segments were lost (%.1f %%)\n",
			[]string{"to the client", "from the client"}[i], lost, passed+lost, 100*float64(lost)/float64(passed+lost))
	}
}

// conclude checks what must hold at the end, and prints all results.
func (s *soak) conclude(ctx context.Context) {
	s.checkUsage()
	if _, err := s.daemon.Verb(ctx, "status"); err != nil {
		s.fail("%v", err)
	}
	for _, e := range s.events {
		if e.Event == "alarm_raised" || e.Event == "tables_failed" || e.Event == "worker_stuck" {
			s.fail("%s %s: %s %v", clock(e.Time), e.Event, e.Message, e.Fields)
		}
	}
	for _, why := range s.timeline.groundless() {
		s.fail("%s", why)
	}
	if s.totals.Open > 0 {
		s.fail("%d connections have not ended", s.totals.Open)
	}
	s.printServices()
	s.explainAll()
}

// steady is after how long the daemon has all the memory that it needs: its connection table is as
// full as it gets, two minutes after the first connection.
const steady = 4 * time.Minute

// Growth that is allowed: of the most memory once it is steady, from the first half of that time to
// the second, and of open files over all. In the first minutes the heap grows by 128 MiB of garbage
// (engine/cpu/goruntime.go), and the connection tables get their memory when they are first used.
const (
	moreKiB   = 64 << 10
	moreFiles = 20
)

func (s *soak) checkUsage() {
	last, err := usageOf(s.daemon.Process.PID())
	if err != nil {
		s.fail("the daemon: %v", err)
		return
	}
	fmt.Fprintf(s.Out, "the daemon had %d MiB and %d files before, and has %d MiB and %d files\n",
		s.clean.RSSKiB>>10, s.clean.Files, last.RSSKiB>>10, last.Files)
	if last.Files > s.clean.Files+moreFiles {
		s.fail("the daemon has %d open files, and had %d", last.Files, s.clean.Files)
	}
	if s.Time < 2*steady {
		return // too short to tell
	}
	var most [2]int
	for _, u := range s.usage {
		if since := u.at.Sub(s.began); since > steady {
			half := int(2 * (since - steady) / (s.Time - steady + time.Second))
			most[half] = max(most[half], u.RSSKiB)
		}
	}
	fmt.Fprintf(s.Out, "after %v it had up to %d MiB, and up to %d MiB in the second half of the time\n", steady, most[0]>>10, most[1]>>10)
	if most[1] > most[0]+moreKiB {
		s.fail("the daemon has grown by %d MiB", (most[1]-most[0])>>10)
	}
}

func (s *soak) printServices() {
	fmt.Fprintf(s.Out, "\n%-14s %9s %7s  %-38s broken\n", "service", "ok", "broken", "ok by backend")
	for _, service := range s.cfg.Services {
		broken, why := 0, map[string]int{}
		for _, f := range s.broken {
			if f.Service == service.Name {
				broken++
				why[f.Why]++
			}
		}
		by := map[string]int{}
		for server, n := range s.totals.OK[service.Name] {
			name, _, _ := strings.Cut(server, "#")
			by[name] += n
		}
		fmt.Fprintf(s.Out, "%-14s %9d %7d  %-38s %v\n", service.Name, s.totals.sum(service.Name), broken, fmt.Sprint(by), why)
		if s.totals.sum(service.Name) == 0 {
			s.fail("no connection of %s ended well", service.Name)
		}
	}
	fmt.Fprintf(s.Out, "%d were opened (%.1f per second) and %d were not; %d reloads, the slowest took %d ms\n", s.totals.Opened,
		float64(s.totals.Opened)/s.Time.Seconds(), s.totals.Skipped, s.reloads, s.slowestLoad.Milliseconds())
}

// explainAll explains each broken connection by a death, and fails for each one that has none.
func (s *soak) explainAll() {
	guessed, unexplained := 0, 0
	for _, f := range s.broken {
		if f.death = s.timeline.explain(f.Broken, f.backend); f.death == nil {
			unexplained++
			s.fail("unexplained: %s", s.all(f))
			continue
		}
		if f.Server == "" && f.backend == "" {
			guessed++
		}
		f.death.Broken[f.Why+" in "+f.Phase]++
	}
	fmt.Fprintf(s.Out, "\ndeaths, and the connections that each explains:\n")
	for _, d := range s.timeline.deaths {
		fmt.Fprintf(s.Out, "  %s:", d)
		sum := 0
		for _, why := range slices.Sorted(maps.Keys(d.Broken)) {
			fmt.Fprintf(s.Out, " %d %s,", d.Broken[why], why)
			sum += d.Broken[why]
		}
		fmt.Fprintf(s.Out, " %d in all\n", sum)
	}
	fmt.Fprintf(s.Out, "%d broken connections: %d explained by the name of the server or by the daemon's table, %d by time only, %d unexplained\n",
		len(s.broken), len(s.broken)-guessed-unexplained, guessed, unexplained)
}

// all returns everything that is known of a broken connection.
func (s *soak) all(f *fate) string {
	text := f.String()
	for _, c := range f.entries {
		text += fmt.Sprintf("; the daemon's table had %+v", c)
	}
	for _, e := range s.events {
		if e.Time.After(f.Began.Add(-5*time.Second)) && e.Time.Before(f.Ended.Add(time.Second)) &&
			(e.Fields["service"] == "" || e.Fields["service"] == f.Service) {
			text += fmt.Sprintf("\n    %s %s %v", clock(e.Time), e.Event, e.Fields)
		}
	}
	for _, d := range s.timeline.deaths {
		if d.At.Before(f.Ended) && (d.Back.IsZero() || d.Back.After(f.Began.Add(-10*time.Second))) {
			text += fmt.Sprintf("\n    %s", d)
		}
	}
	return text
}
