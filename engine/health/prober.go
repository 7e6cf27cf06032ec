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
	// OnNotRun is called when NotRun may have another number of checks, as OnChange is; it may be
	// nil.
	OnNotRun func()
	// Former returns the state in which a backend begins that was not checked before; ok is false
	// for the usual one, up. It may be nil.
	Former func(service.BackendID) (s State, ok bool)
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
	notRun  map[*runner]error             // those that could not run their last probe
	closed  bool
}

// runner is a check that runs.
type runner struct {
	check        Check
	cancel       context.CancelFunc // nil: it does not run yet
	removed      bool               // guarded by Prober.mu
	stateMachine stateMachine       // guarded by Prober.mu
}

// New returns a Prober without checks.
func New(c Config) *Prober {
	if c.Probe == nil {
		c.Probe = Probe
	}
	if c.OnChange == nil {
		c.OnChange = func(service.BackendID, State, State) {}
	}
	if c.OnNotRun == nil {
		c.OnNotRun = func() {}
	}
	if c.Former == nil {
		c.Former = func(service.BackendID) (State, bool) { return State{}, false }
	}
	p := &Prober{config: c, runners: make(map[service.BackendID]*runner), notRun: make(map[*runner]error)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Set replaces the checks. Equal checks, of one server in several services, run once and all get
// the results. An unchanged check continues undisturbed. A new or changed check is probed within a
// second, or within its interval if that is shorter; a changed check keeps its backend's state, and
// its row of results starts again. Removed checks end. On error nothing has changed.
func (p *Prober) Set(checks map[service.BackendID]Check) error {
	c, err := p.Prepare(checks)
	if err != nil {
		return err
	}
	return c.Commit()
}

// Change is a set of checks that may replace the present one.
type Change struct {
	prober  *Prober
	runners map[service.BackendID]*runner
}

// Prepare returns what Set does with the checks, without doing it. To drop the Change costs
// nothing.
func (p *Prober) Prepare(checks map[service.BackendID]Check) (*Change, error) {
	for id, c := range checks {
		if err := c.validate(); err != nil {
			return nil, fmt.Errorf("health of %s in %s: %w", id.Backend, id.Service, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(runnerIndex)
	for _, r := range p.runners {
		all.add(r)
	}
	runners := make(map[service.BackendID]*runner, len(checks))
	for id, c := range checks {
		r := all.find(c)
		if r == nil {
			r = p.newRunner(id, c)
			all.add(r)
		}
		runners[id] = r
	}
	return &Change{p, runners}, nil
}

// States returns the states of the backends that Commit begins with. A result that comes between is
// not included, and is lost if it is of a check that Commit replaces.
func (c *Change) States() map[service.BackendID]State {
	c.prober.mu.Lock()
	defer c.prober.mu.Unlock()
	return statesOf(c.runners)
}

// Commit replaces the checks. No other Set or Commit may have come since Prepare. It fails only
// after Close.
func (c *Change) Commit() error {
	p := c.prober
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("health: the prober is closed")
	}
	used := make(map[*runner]bool, len(c.runners))
	for _, r := range c.runners {
		used[r] = true
		if r.cancel == nil {
			p.run(r)
		}
	}
	for _, r := range p.runners {
		if !used[r] {
			r.cancel()
			r.removed = true
			delete(p.notRun, r)
		}
	}
	p.runners = c.runners
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

// newRunner returns the runner of a backend's check, in the state of the one that it replaces, if
// any. It does not run yet. The caller holds mu.
func (p *Prober) newRunner(id service.BackendID, c Check) *runner {
	r, old := &runner{check: c, stateMachine: start(time.Now())}, p.runners[id]
	former, known := p.config.Former(id)
	switch {
	case c.Type == None:
		r.stateMachine.Reason = "not checked"
	case old != nil:
		r.stateMachine = old.stateMachine
		r.stateMachine.row = 0
	case known:
		r.stateMachine.State = former
	}
	return r
}

// run starts a check. The caller holds mu.
func (p *Prober) run(r *runner) {
	if r.check.Type == None {
		r.cancel = func() {}
		return
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(p.ctx)
	p.running.Add(1)
	go p.loop(ctx, r)
}

// States returns the states of all backends of the last Set.
func (p *Prober) States() map[service.BackendID]State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return statesOf(p.runners)
}

func statesOf(runners map[service.BackendID]*runner) map[service.BackendID]State {
	states := make(map[service.BackendID]State, len(runners))
	for id, r := range runners {
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
// difference. A probe that could not be run has no result: it neither continues nor ends a row.
func (p *Prober) record(r *runner, err error, began, ended time.Time) {
	p.calling.Lock()
	defer p.calling.Unlock()
	var lack error
	if lacking(err) {
		lack = err
	}
	p.mu.Lock()
	changed := p.setNotRun(r, lack)
	p.mu.Unlock()
	if changed {
		p.config.OnNotRun()
	}
	if lack != nil {
		return
	}
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
