package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/cpu"
	"sluice/engine/estate"
	"sluice/engine/eventlog"
	"sluice/engine/metrics"
)

// Bounds of a stop, from the first signal on. The service manager's own (TimeoutStopSec) is longer.
const (
	shutdownTimeout = 5 * time.Second  // for requests that are being answered
	stopTimeout     = 12 * time.Second // for everything: then the process ends as it is
	flushTimeout    = time.Second      // for the log
)

// Options are the settings of Run.
type Options struct {
	ConfigPath string
	Socket     string // control socket; "": that of the configuration
	Version    string
	Log        *eventlog.Log
}

// Run runs the daemon until a signal stops it, which is no error, or the engine fails. SIGHUP
// reloads the configuration. SIGTERM and SIGINT stop it cleanly; a second one, or a stop that takes
// too long, ends the process without cleaning up: the kernel then detaches the XDP programs.
func Run(ctx context.Context, o Options) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	// Without a receiver of SIGPIPE a write to a closed stderr would end the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	store := estate.Open()
	slog.SetDefault(o.Log.Logger) // packages of others that log must not block either
	defer o.Log.Flush(flushTimeout)
	return (&runner{
		configPath: o.ConfigPath,
		socket:     o.Socket,
		version:    o.Version,
		logger:     o.Log.Logger,
		log:        o.Log,
		privileges: checkPrivileges,
		load:       LoadConfig,
		parse:      parseConfig,
		store:      store,
		start: func(ctx context.Context, cfg *conf.Config, configPath, version string, logger *slog.Logger) (balancer, error) {
			return startEngine(ctx, cfg, configPath, version, logger, store)
		},
		signals: signals,
		exit: func(code int) {
			o.Log.Flush(flushTimeout / 10)
			os.Exit(code)
		},
		stopTimeout: stopTimeout,
	}).run(ctx)
}

// balancer is what the daemon needs of an engine.Engine.
type balancer interface {
	api.Control
	// Done is closed when the engine has stopped by itself.
	Done() <-chan struct{}
	// Stuck returns which worker hangs, if that is why: then Close would wait for it.
	Stuck() error
	// Succeed lets another process take the place of this one.
	Succeed(ctx context.Context, prepare func(config string) (layout string, err error), give func() error) error
	// Close stops the workers and returns the ports to the kernel. Its error includes the one that
	// stopped the engine.
	Close() error
}

// runner is one run of the daemon. Its functions are fields so that tests can replace the engine,
// the signals and the file.
type runner struct {
	configPath string
	socket     string // "": that of the configuration
	version    string
	logger     *slog.Logger
	log        *eventlog.Log // behind logger; nil: not published and not counted
	privileges func() error
	load       func(path string) (*conf.Config, []conf.Problem, error)
	parse      func(name string, text []byte) (*conf.Config, []conf.Problem, error)
	store      *estate.Store // nil: nothing outlives the process
	start      func(ctx context.Context, cfg *conf.Config, configPath, version string, logger *slog.Logger) (balancer, error)
	signals    <-chan os.Signal
	exit       func(code int)

	stopTimeout time.Duration

	// set by run
	systemd   *notifier
	engine    balancer
	server    *api.Server
	upgrading sync.Mutex // held during an upgrade
	stopping  <-chan struct{}
	succeeded chan struct{} // closed when another process runs in the place of this one
}

// run implements Run.
func (r *runner) run(ctx context.Context) (err error) {
	defer func() { r.store.Former().Fail(err) }()
	r.succeeded = make(chan struct{})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r.stopping = ctx.Done()
	ended := make(chan struct{})
	defer close(ended)
	go r.boundStop(ctx, ended)
	r.systemd = newNotifier(r.logger)
	defer r.systemd.end()
	reloads := make(chan struct{}, 1)
	go r.handleSignals(ctx, stop, reloads)

	cfg, warnings, err := r.firstConfig()
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		r.logger.Warn(warning.Error())
	}
	if err := r.privileges(); err != nil {
		return err
	}
	if r.socket == "" {
		r.socket = cfg.API.Socket
	}
	var listener net.Listener
	if r.store.Former() == nil { // else that one still listens
		if listener, err = api.Listen(r.socket); err != nil {
			return err // another daemon runs
		}
		defer listener.Close()
	}
	engine, err := r.start(ctx, cfg, r.configPath, r.version, r.logger)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it started
		}
		return err
	}
	r.engine = engine
	control := systemdNotifier{auditLog{engine, r.logger}, r}
	r.server = api.NewServer(control, r.logger)
	r.server.OfferUpgrade(r.upgrade)
	ready := r.succeed(ctx)
	if listener == nil {
		if listener, err = r.formerListener(); err != nil {
			return errors.Join(err, engine.Close())
		}
		defer listener.Close()
	}
	served := r.serve(cfg, listener)
	r.announce(ctx, cfg, engine)
	if ready != nil {
		_ = r.store.Former().Ready(ready) // without it this process goes on, too
	}
	go r.watchdog(ctx, engine.Done(), cfg.Engine.StuckAfter)
	failure := r.wait(ctx, engine, control, reloads, served)
	stop()
	return r.end(ctx, failure)
}

// serve answers requests on the control socket and, if it is configured, the network address. What
// ends the control socket is sent to the channel.
func (r *runner) serve(cfg *conf.Config, listener net.Listener) <-chan error {
	options := metrics.Options{Backends: cfg.API.Metrics == conf.MetricsBackends}
	if r.log != nil {
		r.log.Follow(r.server.Publish)
		options.Log = func() metrics.LogCounts { return metrics.LogCounts(r.log.Counts()) }
	}
	r.server.Handle("GET /metrics", metrics.New(r.engine, options).Handler())
	served := make(chan error, 1)
	go func() { served <- r.server.Serve(listener) }()
	if cfg.API.HTTP != "" {
		r.server.OpenNetwork(cfg.API.HTTP, api.Access{TokenFile: cfg.API.TokenFile, OpenReads: cfg.API.OpenReads(), Host: cfg.API.Host})
	}
	return served
}

// end ends what run has started, after the stop or a failure. If another process runs in the place
// of this one, it leaves everything to that.
func (r *runner) end(ctx context.Context, failure error) error {
	if !r.over() {
		r.systemd.notify(systemd.SdNotifyStopping)
	}
	r.logger.Info("stopping", "event", "stopping")
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := r.server.Shutdown(deadline); err != nil {
		r.logger.Warn("a verb was cut off", "error", err)
	}
	if err := errors.Join(failure, r.engine.Close()); err != nil {
		return err
	}
	r.logger.Info("stopped", "event", "stopped")
	return nil
}

// boundStop ends the process if the daemon has not ended within stopTimeout after ctx.
func (r *runner) boundStop(ctx context.Context, ended <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-ended:
		return
	}
	select {
	case <-time.After(r.stopTimeout):
		r.logger.Error("the stop takes too long: ending without cleaning up", "after", r.stopTimeout)
		r.exit(1)
	case <-ended:
	}
}

// handleSignals handles signals until the process ends. It continues after the first stop, because
// a second one must force the exit.
func (r *runner) handleSignals(ctx context.Context, stop context.CancelFunc, reloads chan<- struct{}) {
	for sig := range r.signals {
		switch {
		case sig == syscall.SIGHUP:
			select {
			case reloads <- struct{}{}:
			default: // one is waiting already and will read the same file
			}
		case ctx.Err() == nil:
			stop()
		default:
			r.logger.Error("signal during the stop: ending without cleaning up", "signal", sig)
			r.exit(1)
		}
	}
}

// wait reloads on demand until the daemon must stop. It returns nil after a signal, else the
// reason.
func (r *runner) wait(ctx context.Context, engine balancer, control api.Control, reloads <-chan struct{}, served <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.succeeded:
			return nil
		case <-reloads:
			_, _ = control.Reload(ctx, api.ReloadOptions{}) // the audit log has the result
		case <-engine.Done():
			if err := engine.Stuck(); err != nil {
				r.endStuck(err)
				return err
			}
			return errors.New("the engine stopped by itself")
		case err := <-served:
			if err == nil { // another process accepts connections
				served = nil
				continue
			}
			return fmt.Errorf("the control socket failed: %w", err)
		}
	}
}

// announce prints the one line that scripts wait for.
func (r *runner) announce(ctx context.Context, cfg *conf.Config, engine balancer) {
	backends := 0
	for _, s := range cfg.Services {
		backends += len(s.Backends)
	}
	attributes := []any{"version", r.version, "services", len(cfg.Services), "backends", backends, "socket", r.socket}
	if stats, err := engine.Stats(ctx); api.Answered(err) == nil {
		var ports []string
		for _, p := range stats.Ports {
			ports = append(ports, p.Name+":"+p.IO)
		}
		attributes = append(attributes, "workers", len(stats.Workers), "ports", strings.Join(ports, ","))
	}
	r.logger.Info("ready", append(attributes, "event", "ready")...)
	r.serving(ctx, engine)
	cpu.BoundHeap()
}
