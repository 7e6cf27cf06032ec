package flooding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/flood"
	"sluice/tools/pause"
)

// Result is what a case came to.
type Result struct {
	Case
	FloodS  float64 `json:"flood_s"`  // how long the flood lasted
	SentPPS float64 `json:"sent_pps"` // packets per second that were sent
	Idle    float64 `json:"idle"`     // part of the CPUs that was idle during the flood

	Before Opened `json:"before"` // new connections to the other service without the flood
	During Opened `json:"during"` // and with it
	After  Opened `json:"after"`  // and from its end on
	Own    Opened `json:"own"`    // new connections to the flooded service, with the flood
	Broken int    `json:"broken"` // of the connections that last

	Named    []string          `json:"named"`    // alarms during the flood
	CalmS    float64           `json:"calm_s"`   // from the end to the last refusal or alarm; or -1
	Calm     string            `json:"calm"`     // what lasted longest, or lasts
	Identity string            `json:"identity"` // "exact", or what is wrong
	Drops    map[string]uint64 `json:"drops"`    // that are not zero
	Counters map[string]uint64 `json:"counters"`
	Missed   []string          `json:"missed"` // goals
}

// Lengths of the parts of a measurement.
const (
	calmMost  = 15 * time.Second // how long refusals and alarms are looked for
	calmEvery = 250 * time.Millisecond
)

// before returns how long the load without the flood lasts.
func (s Settings) before() time.Duration { return max(s.Time/3, 3*time.Second) }

// measure makes one measurement.
func (s Settings) measure(ctx context.Context, c Case) (r Result, err error) {
	if c.Entries == 0 {
		c.Entries = fills(c.Rate)
	}
	l, err := s.open(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r = Result{Case: c}
	held := l.hold(ctx)
	quiet := open(l.bed.Client, l.other, false, c.PerS)
	if err := pause.For(ctx, s.before()); err != nil {
		return r, err
	}
	r.Before = quiet.end()
	if err := l.during(ctx, s.Time, &r); err != nil {
		return r, err
	}
	r.Broken, err = held.end(ctx)
	if r.Broken > 0 {
		s.Log("  live connections: %v", err)
	}
	l.conclude(ctx, &r)
	r.assess()
	return r, nil
}

// fills returns the size of a table that a flood fills within a second.
func fills(rate float64) int {
	n := 4096
	for ; 2*float64(n) <= rate; n *= 2 {
	}
	return n
}

// during runs the flood and looks for its end.
func (l *lab) during(ctx context.Context, length time.Duration, r *Result) error {
	other := open(l.bed.Client, l.other, false, l.PerS)
	own := open(l.bed.Client, l.flooded, l.Kind == kindUDP, l.OwnPerS)
	stop, err := l.disturb()
	if err != nil {
		return err
	}
	start, cpuBefore := time.Now(), l.usage()
	for time.Since(start) < length {
		if err := pause.For(ctx, time.Second); err != nil {
			return errors.Join(err, stop(nil))
		}
		r.note(l.alarms(ctx))
	}
	r.Idle = l.usage().idleSince(cpuBefore)
	r.FloodS = time.Since(start).Seconds()
	var sent uint64
	if err := stop(&sent); err != nil {
		return err
	}
	r.SentPPS = float64(sent) / r.FloodS
	after := open(l.bed.Client, l.other, false, l.PerS)
	var opened sync.WaitGroup
	opened.Go(func() { r.During, r.Own = other.end(), own.end() })
	l.calm(ctx, r)
	opened.Wait()
	r.After = after.end()
	return nil
}

// disturb begins the flood, or the connections that open and close. stop ends it and returns what
// was sent.
func (l *lab) disturb() (stop func(sent *uint64) error, err error) {
	if l.Kind == kindChurn {
		churn := open(l.bed.Client, l.flooded, false, int(l.Rate))
		return func(sent *uint64) error {
			o := churn.end()
			if sent != nil {
				*sent = uint64(o.Asked)
			}
			return nil
		}, nil
	}
	f, err := l.flood(l.Rate)
	if err != nil {
		return nil, err
	}
	return func(sent *uint64) error {
		if sent != nil {
			*sent = f.Sent()
		}
		dropped, err := f.Dropped()
		l.dropped = dropped
		return errors.Join(err, f.Stop())
	}, nil
}

// calm waits until no packet is refused and there is no alarm about the flooded service.
func (l *lab) calm(ctx context.Context, r *Result) {
	start := time.Now()
	last, refused := start, l.refused(ctx)
	for time.Since(start) < calmMost {
		if pause.For(ctx, calmEvery) != nil {
			break
		}
		if now := l.refused(ctx); now != refused {
			refused, last, r.Calm = now, time.Now(), "refusals"
		}
		for _, alarm := range l.alarms(ctx) {
			if strings.HasSuffix(alarm, floodedName) { // a small table may have others for good
				last, r.Calm = time.Now(), alarm
			}
		}
	}
	r.CalmS = last.Sub(start).Seconds()
	if time.Since(last) < 2*calmEvery {
		r.CalmS = -1
	}
}

// refused returns how many packets were dropped for lack of space.
func (l *lab) refused(ctx context.Context) (n uint64) {
	stats, err := l.daemon.API.Stats(ctx)
	if api.Answered(err) != nil {
		return 0
	}
	for name, count := range stats.Drops {
		if strings.HasPrefix(name, "table_") || strings.HasPrefix(name, "snat_") {
			n += count
		}
	}
	return n
}

// alarms returns the daemon's alarms, as text.
func (l *lab) alarms(ctx context.Context) (all []string) {
	status, err := l.daemon.API.Status(ctx)
	if err != nil {
		return []string{"no status: " + err.Error()}
	}
	for _, a := range status.Alarms {
		all = append(all, strings.TrimSpace(fmt.Sprint(a.Kind, " ", a.Service)))
	}
	return all
}

// note adds alarms that are new.
func (r *Result) note(alarms []string) {
	for _, a := range alarms {
		if !strings.Contains(strings.Join(r.Named, ";"), a) {
			r.Named = append(r.Named, a)
		}
	}
}

// quietTimeout bounds the wait for the last packet.
const quietTimeout = 20 * time.Second

// conclude reads the counters when no packet is in flight.
func (l *lab) conclude(ctx context.Context, r *Result) {
	waiting, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	stats, err := l.daemon.Quiet(waiting)
	r.Identity = "exact"
	if err != nil {
		r.Identity = err.Error()
	}
	r.Drops = map[string]uint64{}
	for name, n := range stats.Drops {
		if n > 0 {
			r.Drops[name] = n
		}
	}
	_, lost, _ := l.loss.Counts() // of the flood's packets, which the balancer has forwarded
	r.Counters = map[string]uint64{
		"rx": stats.Rx, "forwarded": stats.Forwarded, "replied": stats.Replied, "untracked": stats.Untracked,
		"displaced": stats.Displaced, "adopted": stats.Adopted, "passed_flood": lost, "dropped_before": l.dropped,
	}
	r.Counters["rx_ring_full"], r.Counters["no_free_frame"] = ringDrops(stats)
}

// Goals.
const (
	goalLate  = 0.001
	goalOwn   = 0.99 // tun, dr
	goalTable = 0.95 // nat, fullnat: the reply needs an entry
	goalCalmS = 10
)

// assess names the goals that were missed.
func (r *Result) assess() {
	miss := func(bad bool, format string, args ...any) {
		if bad {
			r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
		}
	}
	own := goalTable
	if r.Mode == "tun" || r.Mode == "dr" {
		own = goalOwn
	}
	miss(r.During.LateShare() > goalLate, "%.2f %% of new connections were late", 100*r.During.LateShare())
	miss(r.After.LateShare() > goalLate, "%.2f %% of those after the flood were late", 100*r.After.LateShare())
	miss(r.Broken > 0, "%d live connections broke", r.Broken)
	miss(r.Own.OKShare() < own, "%.1f %% of the flooded service's succeeded", 100*r.Own.OKShare())
	miss(r.CalmS < 0 || r.CalmS > goalCalmS, "no calm after %.1f s: %s", r.CalmS, r.Calm)
	miss(r.Identity != "exact", "the counters do not add up: %s", r.Identity)
}

// String returns the result in some lines.
func (r Result) String() string {
	drops, _ := json.Marshal(r.Drops)
	counters, _ := json.Marshal(r.Counters)
	text := fmt.Sprintf("%s: %.0f per second sent (of %.0f) for %.0f s, %d entries, idle %.0f %%\n", r.Name, r.SentPPS, r.Rate, r.FloodS, r.Entries, 100*r.Idle)
	text += fmt.Sprintf("    other before %+v\n    other during %+v\n    other after  %+v\n    own          %+v\n", r.Before, r.During, r.After, r.Own)
	text += fmt.Sprintf("    live broken %d of %d, calm after %.1f s %s, alarms %v, identity %s\n    drops %s, counters %s", r.Broken, r.Live, r.CalmS, r.Calm, r.Named, r.Identity, drops, counters)
	for _, m := range r.Missed {
		text += "\n    MISSED: " + m
	}
	return text
}

// searchWindow is how long one rate is tried.
const searchWindow = 3 * time.Second

// search returns the highest rate that leaves IdleGoal of the CPUs idle.
func (s Settings) search(ctx context.Context, c Case) (rate float64, err error) {
	c.Entries = 1 << 15
	l, err := s.open(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	held := l.hold(ctx)
	other := open(l.bed.Client, l.other, false, c.PerS)
	defer func() { other.end(); _, _ = held.end(ctx) }()
	const lostMost, sentLeast = 0.0005, 0.98 // of what is sent, and of what is asked for
	const first, step, least = 30_000, 1.5, 2_000
	for try := float64(first); try >= least; {
		f, err := l.flood(try)
		if err != nil {
			return 0, err
		}
		before, lostBefore := l.usage(), l.lost(ctx, f)
		err = pause.For(ctx, searchWindow)
		idle, sent, lost := l.usage().idleSince(before), f.Sent(), l.lost(ctx, f)-lostBefore
		if err := errors.Join(err, f.Stop()); err != nil {
			return 0, err
		}
		s.Log("  %s: %.0f per second (sent %d in %v, %d lost before the daemon) leave %.0f %% idle", c.Name, try, sent, searchWindow, lost, 100*idle)
		if float64(lost) > lostMost*float64(sent) || float64(sent) < sentLeast*try*searchWindow.Seconds() {
			idle = 0 // too much for the machine, though there are pauses
		}
		switch {
		case idle < IdleGoal && rate > 0:
			return rate, nil
		case idle < IdleGoal:
			try /= step
		case try < first:
			return try, nil
		default:
			rate = try
			try *= step
		}
	}
	return least, nil
}

// lost returns how many packets were dropped before the daemon could receive them.
func (l *lab) lost(ctx context.Context, f *flood.Flood) uint64 {
	n, _ := f.Dropped()
	stats, err := l.daemon.API.Stats(ctx)
	if api.Answered(err) != nil {
		return n
	}
	full, noFrame := ringDrops(stats)
	return n + full + noFrame
}

// ringDrops returns how many packets found the ring of a queue full, and how many found no free
// frame.
func ringDrops(stats api.Stats) (full, noFrame uint64) {
	for _, p := range stats.Ports {
		for _, q := range p.Queues {
			full += q.KernelRxRingFull
			noFrame += q.KernelFillRingEmpty
		}
	}
	return full, noFrame
}
