package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/eventlog"
	"sluice/engine/metrics"
)

// shutdownTimeout bounds how long a stopping daemon waits for the verbs that it is answering.
const shutdownTimeout = 5 * time.Second

func newRun() *cobra.Command {
	var configPath, socket string
	level, format := slog.LevelInfo, eventlog.Auto
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Be the load balancer, in the foreground",
		Long: "Run is the daemon. It logs on stderr, prints one line containing `ready` when packets flow, reads its\n" +
			"file again on SIGHUP and stops on SIGTERM or SIGINT; a second one of these stops it without cleaning up.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(eventlog.Formats, format) {
				return usageError{fmt.Errorf("--log-format %q: there is %s", format, strings.Join(eventlog.Formats, ", "))}
			}
			log, err := eventlog.New(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return err
			}
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
			defer signal.Stop(signals)
			return (&runner{
				configPath: configPath,
				socket:     socket,
				logger:     log.Logger,
				log:        log,
				privileges: checkPrivileges,
				load:       loadConfig,
				start:      startEngine,
				signals:    signals,
				exit:       os.Exit,
			}).run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	cmd.Flags().StringVar(&socket, "socket", "", "control socket, in place of the file's [api] socket")
	cmd.Flags().Var(levelFlag{&level}, "log-level", "DEBUG, INFO, WARN or ERROR")
	cmd.Flags().StringVar(&format, "log-format", eventlog.Auto, strings.Join(eventlog.Formats, ", ")+": auto is journal where stderr is the journal, else text")
	return cmd
}

// levelFlag is the value of --log-level.
type levelFlag struct{ *slog.Level }

func (levelFlag) Type() string { return "LEVEL" }

func (l levelFlag) Set(text string) error {
	if l.UnmarshalText([]byte(text)) != nil {
		return fmt.Errorf("%q is not one of DEBUG, INFO, WARN, ERROR", text)
	}
	return nil
}

// machine is what run needs of the engine.
type machine interface {
	api.Control
	// Alive says whether every worker's loop goes round, before ctx ends.
	Alive(ctx context.Context) error
	// Done is closed when the engine has stopped by itself.
	Done() <-chan struct{}
	// Close stops the workers, gives the ports back to the kernel, and says why the engine failed
	// if it did.
	Close() error
}

// runner is one life of the daemon. Its functions are fields, so that a test can be the machine,
// the signals and the file.
type runner struct {
	configPath string
	socket     string // "": what the file says
	logger     *slog.Logger
	log        *eventlog.Log // behind logger; nil: nobody follows or counts
	privileges func() error
	load       func(path string) (*conf.Config, []conf.Problem, error)
	start      func(ctx context.Context, cfg *conf.Config, configPath string, logger *slog.Logger) (machine, error)
	signals    <-chan os.Signal
	exit       func(code int)
}

// run lives until a signal says stop, which is no error, or the engine fails.
func (r *runner) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reloads := make(chan struct{}, 1)
	go r.watch(ctx, stop, reloads)

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
	engine, err := r.start(ctx, cfg, r.configPath, r.logger)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before there was anything to stop
		}
		return err
	}
	control := told{logged{engine, r.logger}, r}
	server := api.NewServer(control, r.logger)
	options := metrics.Options{Backends: cfg.API.Metrics == conf.MetricsBackends}
	if r.log != nil {
		r.log.Follow(server.Publish)
		options.Log = r.log.Counts
	}
	exporter := metrics.New(engine, options)
	server.Handle("GET /metrics", exporter.Handler())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if cfg.API.HTTP != "" {
		server.OpenNetwork(cfg.API.HTTP, api.Access{TokenFile: cfg.API.TokenFile, OpenReads: cfg.API.OpenReads(), Host: cfg.API.Host})
	}

	r.announce(ctx, cfg, engine)
	go r.watchdog(ctx, engine)
	failure := r.wait(ctx, engine, control, reloads, served)
	r.notify(daemon.SdNotifyStopping)
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

// watch turns signals into their meaning until the process ends: the first stop must not end it,
// since the second one is for it too.
func (r *runner) watch(ctx context.Context, stop context.CancelFunc, reloads chan<- struct{}) {
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
			r.logger.Error("second signal: stopping without cleaning up", "signal", sig)
			r.exit(exitFailed)
		}
	}
}

// wait reloads on demand until somebody stops the daemon, and gives the error if nobody wanted
// that.
func (r *runner) wait(ctx context.Context, engine machine, control api.Control, reloads <-chan struct{}, served <-chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-reloads:
			_, _ = control.Reload(ctx, api.ReloadOptions{}) // it has logged both
		case <-engine.Done():
			return errors.New("the engine stopped by itself")
		case err := <-served:
			return fmt.Errorf("the control socket failed: %w", err)
		}
	}
}

// announce prints the one line that scripts wait for.
func (r *runner) announce(ctx context.Context, cfg *conf.Config, engine machine) {
	backends := 0
	for _, s := range cfg.Services {
		backends += len(s.Backends)
	}
	attributes := []any{"version", version, "services", len(cfg.Services), "backends", backends, "socket", r.socket}
	if stats, err := engine.Stats(ctx); err == nil {
		var ports []string
		for _, p := range stats.Ports {
			ports = append(ports, p.Name+":"+p.IO)
		}
		attributes = append(attributes, "workers", len(stats.Workers), "ports", strings.Join(ports, ","))
	}
	r.logger.Info("ready", append(attributes, "event", "ready")...)
	r.serving(ctx, engine)
}
