package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/cpu"
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
		start:      startEngine,
		signals:    signals,
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
	start      func(ctx context.Context, cfg *conf.Config, configPath, version string, logger *slog.Logger) (balancer, error)
	signals    <-chan os.Signal
	exit       func(code int)

	stopTimeout time.Duration
	systemd     *notifier // set by run
}

// run implements Run.
func (r *runner) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	go r.boundStop(ctx, ended)
	r.systemd = newNotifier(r.logger)
	defer r.systemd.end()
	reloads := make(chan struct{}, 1)
	go r.handleSignals(ctx, stop, reloads)

	cfg, warnings, err := r.load(r.configPath)
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
	listener, err := api.Listen(r.socket) // before the engine: it refuses a second daemon
	if err != nil {
		return err
	}
	defer listener.Close()
	engine, err := r.start(ctx, cfg, r.configPath, r.version, r.logger)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it started
		}
		return err
	}
	control := systemdNotifier{auditLog{engine, r.logger}, r}
	server := api.NewServer(control, r.logger)
	options := metrics.Options{Backends: cfg.API.Metrics == conf.MetricsBackends}
	if r.log != nil {
		r.log.Follow(server.Publish)
		options.Log = func() metrics.LogCounts { return metrics.LogCounts(r.log.Counts()) }
	}
	exporter := metrics.New(engine, options)
	server.Handle("GET /metrics", exporter.Handler())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if cfg.API.HTTP != "" {
		server.OpenNetwork(cfg.API.HTTP, api.Access{TokenFile: cfg.API.TokenFile, OpenReads: cfg.API.OpenReads(), Host: cfg.API.Host})
	}

	r.announce(ctx, cfg, engine)
	go r.watchdog(ctx, engine.Done(), cfg.Engine.StuckAfter)
	failure := r.wait(ctx, engine, control, reloads, served)
	stop()
	r.systemd.notify(systemd.SdNotifyStopping)
	r.logger.Info("stopping", "event", "stopping")
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(deadline); err != nil {
		r.logger.Warn("a verb was cut off", "error", err)
	}
	if err := errors.Join(failure, engine.Close()); err != nil {
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
		case <-reloads:
			_, _ = control.Reload(ctx, api.ReloadOptions{}) // the audit log has the result
		case <-engine.Done():
			if err := engine.Stuck(); err != nil {
				r.endStuck(err)
				return err
			}
			return errors.New("the engine stopped by itself")
		case err := <-served:
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
