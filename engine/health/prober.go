package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"sluice/pipeline/service"
)

// Config says what a Prober does with results.
type Config struct {
	// OnChange is told when a backend goes up or down, and also when it is on the way: when its
	// checks begin to fail or to succeed (State.Failing). It is called on the prober's goroutines,
	// one call at a time, and not within Set: after Set, look at States. A call may still come for
	// a check that Set has just removed or replaced. It must not call Close, nor wait for somebody
	// who does.
	OnChange func(id service.BackendID, before, now State)
	// Probe runs one probe; nil: the function Probe of this package.
	Probe func(context.Context, Check) error
}

// Prober runs checks from Set to Close. Its methods may be called from any goroutine.
type Prober struct {
	config  Config
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	telling sync.Mutex // held during OnChange

	mu      sync.Mutex                    // guards what follows; never held during OnChange or a probe
	runners map[service.BackendID]*runner // backends with equal checks have one together
	closed  bool
}

// runner is a check that runs.
type runner struct {
	check   Check
	cancel  context.CancelFunc
	machine machine // guarded by Prober.mu
}

// New makes a Prober that has nothing to do yet.
func New(c Config) *Prober {
	if c.Probe == nil {
		c.Probe = Probe
	}
	if c.OnChange == nil {
		c.OnChange = func(service.BackendID, State, State) {}
	}
	p := &Prober{config: c, runners: make(map[service.BackendID]*runner)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Set makes these the checks that run. Equal checks, of one server in several services, run once,
// and all have its results. One that is unchanged goes on undisturbed. One that is new or changed
// is probed within a second, or within its interval if that is shorter; a changed one keeps the
// state that its backend had, with the row of results begun anew. Removed ones end. An error means
// that nothing was changed.
func (p *Prober) Set(checks map[service.BackendID]Check) error {
	for id, c := range checks {
		if err := c.validate(); err != nil {
			return fmt.Errorf("health of %s in %s: %w", id.Backend, id.Service, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("health: the prober is closed")
	}
	all := make(pool)
	for _, r := range p.runners {
		all.add(r)
	}
	runners := make(map[service.BackendID]*runner, len(checks))
	used := make(map[*runner]bool, len(checks))
	for id, c := range checks {
		r := all.find(c)
		if r == nil {
			r = p.run(c, p.runners[id])
			all.add(r)
		}
		runners[id], used[r] = r, true
	}
	for _, r := range p.runners {
		if !used[r] {
			r.cancel()
		}
	}
	p.runners = runners
	return nil
}

// pool finds the runner of a check.
type pool map[netip.AddrPort][]*runner

func (all pool) find(c Check) *runner {
	for _, r := range all[c.Target] {
		if r.check.equal(c) {
			return r
		}
	}
	return nil
}

// add is for a runner that may be in the pool already.
func (all pool) add(r *runner) {
	if all.find(r.check) == nil {
		all[r.check.Target] = append(all[r.check.Target], r)
	}
}

// run starts a check in the state of the one that it replaces, if any. The caller holds mu.
func (p *Prober) run(c Check, old *runner) *runner {
	r := &runner{check: c, cancel: func() {}, machine: start(time.Now())}
	switch {
	case c.Type == None:
		r.machine.Reason = "not checked"
		return r
	case old != nil:
		r.machine = old.machine
		r.machine.row = 0
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(p.ctx)
	p.running.Add(1)
	go p.loop(ctx, r)
	return r
}

// States gives what is known of all backends that Set named last.
func (p *Prober) States() map[service.BackendID]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make(map[service.BackendID]State, len(p.runners))
	for id, r := range p.runners {
		states[id] = r.machine.State
	}
	return states
}

// Close ends all checks, probes under way included, and waits until they have ended.
func (p *Prober) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.running.Wait()
}

// loop probes until ctx ends. Probes that share an interval are spread over it from the first one
// on.
func (p *Prober) loop(ctx context.Context, r *runner) {
	defer p.running.Done()
	wait := rand.N(min(r.check.Interval, time.Second))
	for sleep(ctx, wait) {
		began := time.Now()
		err := p.config.Probe(ctx, r.check)
		if ctx.Err() != nil {
			return
		}
		ended := time.Now()
		p.note(r, err, began, ended)
		wait = jitter(r.check.Interval) - ended.Sub(began)
	}
}

// note puts a result down, and tells those that have this check if it makes a difference.
func (p *Prober) note(r *runner, err error, began, ended time.Time) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	before := r.machine.State
	r.machine.note(err, r.check, began, ended)
	now := r.machine.State
	var whom []service.BackendID
	if before.Up != now.Up || before.Failing != now.Failing {
		for id, has := range p.runners {
			if has == r {
				whom = append(whom, id)
			}
		}
	}
	p.mu.Unlock()
	for _, id := range whom {
		p.config.OnChange(id, before, now)
	}
}

// jitter gives d, up to a tenth less: never more, so that a backend is found out in the time that
// Fall checks take.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// sleep waits and reports whether ctx still runs.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
