// Package engine is the running balancer and its control plane. It starts the workers, follows what
// they depend on and gives them tables. Its files, by what they follow:
//
//   - engine.go starts and closes everything; publish.go makes a change take effect or not at all.
//   - hotplug.go follows interfaces, neighbours.go routes and neighbours, health.go and truepath.go
//     the checks, deadlines.go the time, former.go the last connections of what is not configured.
//   - pressure.go follows what a full table does to services.
//   - control.go, overrides.go, apply.go, plan.go, stats.go, status.go and diagnostics.go implement
//     package api for clients; offline.go does without a running engine.
//
// An Engine owns the workers (package worker), the platform, the prober and the tables that are
// published. Engine.mu guards the state that tables follow from; no worker locks it. Besides the
// workers it has one goroutine each for ports, health, deadlines, pressure and former backends, and
// one while there is a detour for checks.
//
// The package may import every package below it. Of these only enginetest imports it.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/answers"
	"sluice/engine/health"
	"sluice/engine/health/truepath"
	"sluice/engine/inspect"
	"sluice/engine/override"
	"sluice/engine/platform"
	"sluice/engine/pressure"
	"sluice/engine/route"
	"sluice/engine/state"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/engine/takeover"
	"sluice/engine/tokernel"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Options is what an Engine is started with.
type Options struct {
	Logger *slog.Logger // nil: discards
	// Load reads the configuration again, for Reload.
	Load func() (*conf.Config, []conf.Problem, error)
	// File is the file that Load reads and that Apply and Rollback replace; "": none.
	File     string
	Parse    func(name string, text []byte) (*conf.Config, []conf.Problem, error)
	Version  string
	Platform platform.Platform // what the engine stands on; the engine closes it
	// Early makes Start do what it can before it opens the ports, because another process still
	// uses them: it must end with an error rather than too late.
	Early    bool
	Launched func() // called when the workers run; may be nil
	// Probe runs one health check; nil: health.Probe.
	Probe func(context.Context, health.Check) error
	// Numbers is how many services and backends the counters have room for; 0: as many as there can
	// be. Fewer are for tests, which make many engines and know what they configure.
	Numbers int
}

// Engine is a running balancer: the workers, and the control plane that gives them tables. Any
// goroutine may call its exported methods.
type Engine struct {
	log      *slog.Logger
	opts     Options
	platform platform.Platform
	workers  *worker.Set // nil: none were made
	running  sync.WaitGroup
	seed     flow.Seed
	loads    *counter.Loads
	turns    *counter.Turns
	tables   atomic.Pointer[pipeline.Tables]
	started  time.Time
	prober   *health.Prober
	takeover *takeover.Process
	stop     context.CancelFunc // ends the goroutines that follow something
	results  *changedChecks     // backends that have new results of checks
	losses   []steeringLoss     // by port; guarded by mu
	closing  chan struct{}      // closed by Close: traces end
	tracer   *inspect.Tracer

	changeMu         sync.Mutex         // held while configuration or overrides change; before mu
	store            *state.Store       // guarded by changeMu
	generations      *state.Generations // guarded by changeMu
	deadlinesChanged chan struct{}      // wakes followDeadlines

	answers *answers.Answers // of the workers; nil without workers
	kernel  *tokernel.Path   // for packets that are the kernel's; nil before there are workers

	mu           sync.Mutex // guards what follows; workers never take it
	cfg          *conf.Config
	overrides    override.Set
	access       accesslist.Entries
	generation   state.Generation // running
	loaded       time.Time        // when generation started to run
	reloaded     reloaded         // result of the last attempt to change it
	pending      *pending         // nil: no change waits to be confirmed
	restart      []string         // changes that cfg has not, because they need a restart
	surroundings *route.Snapshot
	changed      chan struct{}             // closed and replaced when surroundings changes
	sources      map[netip.Addr]netip.Addr // tun backend -> our address towards it
	compiled     tables.Result             // that was published last
	outside      *outside                  // that compiled follows from
	decider      *steer.Decider            // of compiled.Rules; nil: made when it is needed
	health       healthState
	pressure     *pressure.Watch
	past         map[service.BackendID]counter.Backend // traffic under numbers that are free again
	published    uint64                                // tables so far
	hardware     *platform.Hardware                    // written by Start and followPorts only
	cores        int                                   // one worker on each
	closed       bool

	detour      atomic.Pointer[truepath.Detour] // for checks that take their path; nil: none
	detourErr   error                           // why detour is nil although checks need one
	detoursLost int                             // detours in a row that were removed early
	direct      error                           // why some checks do not take their path
}

// Start opens the ports, publishes the tables and starts the workers. When it returns without
// error, packets flow. On error it closes everything that it had opened.
func Start(ctx context.Context, cfg *conf.Config, o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := newEngine(o)
	if err := e.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// newEngine returns an Engine that has not been started.
func newEngine(o Options) *Engine {
	e := &Engine{
		log: o.Logger, opts: o, platform: o.Platform, started: time.Now(),
		deadlinesChanged: make(chan struct{}, 1),
		compiled:         tables.None(),
		past:             make(map[service.BackendID]counter.Backend),
		changed:          make(chan struct{}),
		stop:             func() {},
		results:          newChangedChecks(),
		closing:          make(chan struct{}),
		takeover:         takeover.New(o.Platform, o.Logger),
		pressure:         pressure.New(time.Now()),
	}
	e.tracer = e.newTracer()
	e.health.grow = time.AfterFunc(time.Hour, e.results.wake)
	e.health.grow.Stop()
	if o.Probe == nil {
		o.Probe = e.probe
	}
	e.prober = health.New(health.Config{OnChange: e.results.add, OnNotRun: e.results.wake, Former: e.takeover.Health, Probe: o.Probe})
	return e
}

// makeCounters makes the counters that all workers share.
func (e *Engine) makeCounters(workers int) {
	services, backends := pipeline.MaxServices, pipeline.MaxBackends
	if n := e.opts.Numbers; n > 0 {
		services, backends = n, n
	}
	e.loads, e.turns = counter.NewLoads(workers, backends), counter.NewTurns(workers, services)
}

func (e *Engine) start(ctx context.Context, cfg *conf.Config) error {
	cores, err := e.platform.Cores(cfg.Engine.Cores)
	if err != nil {
		return fmt.Errorf("engine.cores: %w", err)
	}
	if len(cores) > worker.MaxWorkers || len(cfg.Ports) > worker.MaxPorts {
		return fmt.Errorf("%d workers and %d ports, at most %d and %d are possible: see engine.cores and [[port]]",
			len(cores), len(cfg.Ports), worker.MaxWorkers, worker.MaxPorts)
	}
	e.makeCounters(len(cores))
	e.cfg = cfg
	e.recall(cfg)
	if err := e.platform.Follow(cfg.Ports, e.surroundingsChanged); err != nil {
		return err
	}
	e.platform.SetNeighbours(e.backendAddrs())
	if e.kernel, err = tokernel.New(len(cores), e.platform, e.results.wake, e.log); err != nil {
		return err
	}
	memory, err := e.prepareEarly(cfg, cores)
	if err != nil {
		return err
	}
	hardware, err := e.platform.Open(cfg.Ports, len(cores))
	if err != nil {
		return err
	}
	e.seed = e.takeover.Begin()
	e.mu.Lock()
	e.hardware, e.cores = hardware, len(cores)
	e.losses = make([]steeringLoss, len(hardware.Ports))
	e.openDetour(cfg)
	checks, err := e.prepare(cfg)
	if err == nil {
		err = e.publish(&update{config: cfg, overrides: e.overrides, access: e.access, results: checks.results, direct: checks.direct})
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.workers, err = worker.New(worker.Options{
		Cores: cores, Batch: cfg.Engine.Batch, Connections: cfg.Engine.Connections,
		BusyPoll: cfg.Engine.Poll == conf.PollBusy, AdoptPerSecond: cfg.Engine.AdoptPerSecond,
		Hardware: e.hardware, Memory: memory, Counters: e.takeover.Counters(),
		Seed: &e.seed, Loads: e.loads, Turns: e.turns, Tables: &e.tables,
		Resolve: func(a packet.Addr) { e.platform.Resolve(a.Netip()) }, Kernel: e.kernel,
		Log: e.log,
	})
	if err != nil {
		return err
	}
	e.takeover.Finish(&e.compiled, e.workers, e.hardware)
	maps.Copy(e.past, e.takeover.Past())
	e.answers = answers.New(e.workers, e.platform)
	if err := e.workers.Launch(); err != nil {
		return err
	}
	if e.opts.Launched != nil {
		e.opts.Launched()
	}
	e.followAll(cfg)
	e.awaitNeighbours(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	return checks.change.Commit()
}

// followAll starts the goroutines that follow something.
func (e *Engine) followAll(cfg *conf.Config) {
	following, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.running.Add(6)
	go func() {
		defer e.running.Done()
		e.workers.Watch(following, cfg.Engine.StuckAfter, e.log)
	}()
	go e.followDeadlines(following)
	go e.followFormer(following)
	go e.followPorts(following)
	go e.followPressure(following)
	go e.followHealth(following)
}

// Done returns a channel that is closed when a worker has failed. The caller then closes the Engine
// and exits, or exits at once if Stuck says so.
func (e *Engine) Done() <-chan struct{} { return e.workers.Failed() }

// Stuck returns which worker is stuck for as long as ends the process, nil if none is.
func (e *Engine) Stuck() error {
	if stuck := (*worker.StuckError)(nil); errors.As(e.workers.Failure(), &stuck) {
		return stuck
	}
	return nil
}

// Close stops the workers, detaches from the ports and frees everything. Its error includes the one
// behind Done. If a worker hangs, it frees nothing and the caller must end the process. A second
// call does nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.closing)
	e.mu.Unlock()
	e.prober.Close()
	e.health.grow.Stop()
	err := e.closeDetour()
	e.stop()
	failure := e.workers.Close()
	if errors.As(failure, new(worker.Hung)) {
		e.kernel.Stop()
		return failure // what a worker may still use cannot be freed
	}
	e.running.Wait()
	return errors.Join(failure, err, e.kernel.Close(), e.platform.Close())
}

// surroundingsChanged publishes tables for new routes, neighbours, links or addresses.
func (e *Engine) surroundingsChanged(s *route.Snapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.logLinks(s)
	e.surroundings, e.sources = s, nil
	close(e.changed)
	e.changed = make(chan struct{})
	if e.hardware == nil || e.closed {
		return // Start publishes when the ports are open
	}
	if err := e.republish(); err != nil {
		e.log.Error("tables could not follow a change of routes", "event", "tables_failed", "err", err)
	}
}
