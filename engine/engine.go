package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/health/truepath"
	"sluice/engine/inspect"
	"sluice/engine/override"
	"sluice/engine/platform"
	"sluice/engine/platform/linux"
	"sluice/engine/route"
	"sluice/engine/state"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// Options says what an Engine is started with.
type Options struct {
	Logger  *slog.Logger                                 // nil: discards
	Load    func() (*conf.Config, []conf.Problem, error) // reads the configuration again, for Reload
	File    string                                       // that Load reads, for Apply and Rollback to replace; "": none
	Parse   func(name string, text []byte) (*conf.Config, []conf.Problem, error)
	Version string
	// Platform is what the engine stands on; nil: the kernel.
	Platform platform.Platform
	// Probe runs one health check; nil: health.Probe.
	Probe func(context.Context, health.Check) error
}

// Engine is a running balancer: the workers, and the control plane that feeds them tables. Its
// exported methods may be called from any goroutine.
type Engine struct {
	log      *slog.Logger
	opts     Options
	platform platform.Platform
	workers  *worker.Set // nil: none were made
	running  sync.WaitGroup
	seed     flow.Seed
	loads    *counter.Loads
	tables   atomic.Pointer[pipeline.Tables]
	started  time.Time
	prober   *health.Prober
	stop     context.CancelFunc // ends keepPorts and followHealth
	results  *changedChecks     // backends that have new results of checks
	ending   chan struct{}      // closed by Close: onlookers go
	tracer   *inspect.Tracer

	changing    sync.Mutex   // held by whoever changes the configuration or the overrides, from begin to end; taken before mu
	store       *state.Store // these two belong to the holder of changing
	generations *state.Generations
	woken       chan struct{} // deadlines have changed

	mu           sync.Mutex // guards what follows; workers never take it
	cfg          *conf.Config
	overrides    override.Set
	generation   state.Generation // that runs
	loaded       time.Time        // when it became the one that runs
	reloaded     reloaded         // how the last attempt to change it ended
	pending      *pending         // nil: nothing waits for a confirm
	surroundings *route.Snapshot
	changed      chan struct{}             // closed and replaced with surroundings
	sources      map[netip.Addr]netip.Addr // tun backend -> our address towards it
	compiled     *tables.State             // of the tables that were published last
	steered      steer.Rules
	decider      *steer.Decider // of steered; nil: made when it is needed
	health       healthState
	published    uint64             // tables so far
	hardware     *platform.Hardware // written by Start and keepPorts, which may read it without mu
	cores        int                // one worker on each
	closed       bool

	detour   atomic.Pointer[truepath.Detour] // for checks that take their path; nil: none
	noDetour error                           // why there is none, though there should be
	lost     int                             // detours in a row that did not live long
	direct   error                           // why some checks go directly that should take their path
}

// Start opens the ports, publishes the tables and sets the workers to work. When it returns without
// error, packets flow. Whatever it opened before an error is given back.
func Start(ctx context.Context, cfg *conf.Config, o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Platform == nil {
		o.Platform = linux.New(o.Logger, cfg.Engine.Poll == conf.PollBusy)
	}
	e := newEngine(o)
	if err := e.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// newEngine makes an Engine that has nothing yet.
func newEngine(o Options) *Engine {
	e := &Engine{
		log: o.Logger, opts: o, platform: o.Platform, started: time.Now(),
		woken:    make(chan struct{}, 1),
		compiled: new(tables.State),
		changed:  make(chan struct{}),
		stop:     func() {},
		results:  newChangedChecks(),
		ending:   make(chan struct{}),
	}
	e.tracer = e.newTracer()
	e.health.grow = time.AfterFunc(time.Hour, e.results.wake)
	e.health.grow.Stop()
	if o.Probe == nil {
		o.Probe = e.probe
	}
	e.prober = health.New(health.Config{OnChange: e.results.add, Probe: o.Probe})
	return e
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
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	e.seed = flow.Seed{A: binary.LittleEndian.Uint64(seed[:8]), B: binary.LittleEndian.Uint64(seed[8:])}
	e.loads = counter.NewLoads(len(cores), pipeline.MaxBackends)
	e.cfg = cfg
	e.recall(cfg)
	if err := e.platform.Follow(cfg.Ports, e.surroundingsChanged); err != nil {
		return err
	}
	e.platform.SetNeighbours(e.backendAddrs())
	hardware, err := e.platform.Open(cfg.Ports, len(cores))
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.hardware, e.cores = hardware, len(cores)
	e.openDetour(cfg)
	checks, err := e.prepare(cfg)
	if err == nil {
		err = e.publish(&update{config: cfg, overrides: e.overrides, results: checks.results, direct: checks.direct})
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	e.workers, err = worker.New(worker.Options{
		Cores: cores, Batch: cfg.Engine.Batch, Connections: cfg.Engine.Connections,
		BusyPoll: cfg.Engine.Poll == conf.PollBusy,
		Hardware: e.hardware, Memory: e.platform.Memory,
		Seed: &e.seed, Loads: e.loads, Tables: &e.tables,
		Resolve: func(a packet.Addr) { e.platform.Resolve(a.Netip()) },
		Log:     e.log,
	})
	if err != nil {
		return err
	}
	if err := e.workers.Launch(); err != nil {
		return err
	}
	keep, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.running.Add(3)
	go e.keepTime(keep)
	go e.keepPorts(keep)
	go e.followHealth(keep)
	e.awaitNeighbours(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	return checks.change.Commit()
}

// Alive reports whether every worker's loop goes round: see worker.Set.
func (e *Engine) Alive(ctx context.Context) error { return e.workers.Alive(ctx) }

// Done is closed when the engine can't go on: close it and exit.
func (e *Engine) Done() <-chan struct{} { return e.workers.Failed() }

// Close stops the workers, detaches from the ports and frees everything. Its error includes the one
// that closed Done. It is safe to call twice.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.ending)
	e.mu.Unlock()
	e.prober.Close()
	e.health.grow.Stop()
	err := e.closeDetour()
	e.stop()
	failure := e.workers.Close()
	e.running.Wait()
	return errors.Join(failure, err, e.platform.Close())
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

// backendAddrs lists every backend's address once.
func (e *Engine) backendAddrs() []netip.Addr {
	seen := make(map[netip.Addr]bool)
	var out []netip.Addr
	for _, s := range e.cfg.Services {
		for _, b := range s.Servers() {
			if !seen[b.Key.Address] {
				seen[b.Key.Address] = true
				out = append(out, b.Key.Address)
			}
		}
	}
	return out
}
