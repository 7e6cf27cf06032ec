package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"sluice/pipeline/service"
)

// ID names a backend of a service.
type ID struct {
	Service service.Key
	Backend service.BackendKey
}

// Config says what a Prober does with results.
type Config struct {
	// OnChange is told when a backend goes up or down. It is called on the prober's goroutines, one call at a
	// time, and not within Set: after Set, look at States. A call may still come for a check that Set has just
	// removed or replaced. It must not call Close, nor wait for somebody who does.
	OnChange func(ID, State)
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

	mu      sync.Mutex // guards what follows; never held during OnChange or a probe
	runners map[ID]*runner
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
		c.OnChange = func(ID, State) {}
	}
	p := &Prober{config: c, runners: make(map[ID]*runner)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Set makes these the checks that run. One that is unchanged goes on undisturbed. One that is new or changed is
// probed within a second, or within its interval if that is shorter; a changed one keeps the state that its
// backend had, with the row of results begun anew. Removed ones end. An error means that nothing was changed.
func (p *Prober) Set(checks map[ID]Check) error {
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
	runners := make(map[ID]*runner, len(checks))
	for id, c := range checks {
		old := p.runners[id]
		if old != nil && old.check.equal(c) {
			runners[id] = old
			continue
		}
		runners[id] = p.run(id, c, old)
	}
	for id, r := range p.runners {
		if runners[id] != r {
			r.cancel()
		}
	}
	p.runners = runners
	return nil
}

// run starts a check in the state of the one that it replaces, if any. The caller holds mu.
func (p *Prober) run(id ID, c Check, old *runner) *runner {
	r := &runner{check: c, cancel: func() {}, machine: start(time.Now())}
	switch {
	case c.Type == None:
		r.machine.Reason = "not checked"
		return r
	case old != nil:
		r.machine.State = old.machine.State
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(p.ctx)
	p.running.Add(1)
	go p.loop(ctx, id, r)
	return r
}

// States gives what is known of all backends that Set named last.
func (p *Prober) States() map[ID]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make(map[ID]State, len(p.runners))
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

// loop probes until ctx ends. Probes that share an interval are spread over it from the first one on.
func (p *Prober) loop(ctx context.Context, id ID, r *runner) {
	defer p.running.Done()
	wait := rand.N(min(r.check.Interval, time.Second))
	for sleep(ctx, wait) {
		began := time.Now()
		err := p.config.Probe(ctx, r.check)
		if ctx.Err() != nil {
			return
		}
		ended := time.Now()
		p.note(id, r, err, began, ended)
		wait = jitter(r.check.Interval) - ended.Sub(began)
	}
}

// note puts a result down, and tells of it if the backend changed sides.
func (p *Prober) note(id ID, r *runner, err error, began, ended time.Time) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	changed := r.machine.note(err, r.check, began, ended)
	state, current := r.machine.State, p.runners[id] == r
	p.mu.Unlock()
	if changed && current {
		p.config.OnChange(id, state)
	}
}

// jitter gives d, a tenth more or less.
func jitter(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

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
