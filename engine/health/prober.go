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

// Config configures a Prober.
type Config struct {
	// OnChange is called when a backend goes up or down, and when its checks begin to fail or to
	// succeed (State.Failing). The prober's goroutines call it, one call at a time, and never
	// within Set: after Set, read States. A call may still arrive for a check that Set has just
	// removed or replaced. It must not call Close, nor wait for a goroutine that does.
	OnChange func(id service.BackendID, before, now State)
	// Probe runs one probe; nil: the function Probe of this package.
	Probe func(context.Context, Check) error
}

// Prober runs checks from Set to Close. Any goroutine may call its methods.
type Prober struct {
	config  Config
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	calling sync.Mutex // held during OnChange

	mu      sync.Mutex                    // guards the fields below; not held during calls
	runners map[service.BackendID]*runner // backends with equal checks share one
	closed  bool
}

// runner is a check that runs.
type runner struct {
	check        Check
	cancel       context.CancelFunc
	stateMachine stateMachine // guarded by Prober.mu
}

// New returns a Prober without checks.
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

// Set replaces the checks. Equal checks, of one server in several services, run once and all get
// the results. An unchanged check continues undisturbed. A new or changed check is probed within a
// second, or within its interval if that is shorter; a changed check keeps its backend's state, and
// its row of results starts again. Removed checks end. On error nothing has changed.
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
	all := make(runnerIndex)
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

// runnerIndex finds the runner of a check.
type runnerIndex map[netip.AddrPort][]*runner

func (all runnerIndex) find(c Check) *runner {
	for _, r := range all[c.Target] {
		if r.check.equal(c) {
			return r
		}
	}
	return nil
}

// add adds a runner unless it is there already.
func (all runnerIndex) add(r *runner) {
	if all.find(r.check) == nil {
		all[r.check.Target] = append(all[r.check.Target], r)
	}
}

// run starts a check in the state of the one that it replaces, if any. The caller holds mu.
func (p *Prober) run(c Check, old *runner) *runner {
	r := &runner{check: c, cancel: func() {}, stateMachine: start(time.Now())}
	switch {
	case c.Type == None:
		r.stateMachine.Reason = "not checked"
		return r
	case old != nil:
		r.stateMachine = old.stateMachine
		r.stateMachine.row = 0
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(p.ctx)
	p.running.Add(1)
	go p.loop(ctx, r)
	return r
}

// States returns the states of all backends of the last Set.
func (p *Prober) States() map[service.BackendID]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	states := make(map[service.BackendID]State, len(p.runners))
	for id, r := range p.runners {
		states[id] = r.stateMachine.State
	}
	return states
}

// State returns what is known of one backend, and whether Set named it last.
func (p *Prober) State(id service.BackendID) (State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.runners[id]
	if !ok {
		return State{}, false
	}
	return r.stateMachine.State, true
}

// Close ends all checks, running probes included, and waits until they have ended.
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
		p.record(r, err, began, ended)
		wait = jitter(r.check.Interval) - ended.Sub(began)
	}
}

// record records a result, and calls OnChange for the backends of the check if it makes a
// difference.
func (p *Prober) record(r *runner, err error, began, ended time.Time) {
	p.calling.Lock()
	defer p.calling.Unlock()
	p.mu.Lock()
	before := r.stateMachine.State
	r.stateMachine.record(err, r.check, began, ended)
	now := r.stateMachine.State
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

// jitter returns d reduced by up to a tenth. It never increases d, so that a failure is detected
// within the time of Fall checks.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// sleep waits for d and reports whether ctx has not ended.
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
