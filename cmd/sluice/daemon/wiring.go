package daemon

import (
	"context"
	"log/slog"
	"path/filepath"

	"sluice/conf"
	"sluice/engine"
	"sluice/engine/api"
	"sluice/engine/estate"
	"sluice/engine/host"
	"sluice/engine/platform/linux"
	"sluice/engine/steer"
	"sluice/engine/takeover"
)

// LoadConfig reads a configuration file and checks it against this machine. The verbs check and
// run, and every reload, load a file in this way.
func LoadConfig(path string) (*conf.Config, []conf.Problem, error) {
	here, err := thisHost()
	if err != nil {
		return nil, nil, err
	}
	return conf.Load(path, here)
}

// parseConfig is LoadConfig for a text; name stands for the file in messages.
func parseConfig(name string, text []byte) (*conf.Config, []conf.Problem, error) {
	here, err := thisHost()
	if err != nil {
		return nil, nil, err
	}
	return conf.Parse(name, text, here)
}

// thisHost returns the machine that configurations are checked against.
func thisHost() (*conf.Host, error) {
	here, err := host.Read()
	if err != nil {
		return nil, err
	}
	here.CheckToken = func(path string) error {
		_, err := api.ReadToken(path)
		return err
	}
	here.CheckPins = steer.CanPin
	return here, nil
}

// startEngine starts the engine on the kernel with a configuration; its Reload reads the same file.
func startEngine(ctx context.Context, cfg *conf.Config, configPath, version string, logger *slog.Logger, store *estate.Store) (balancer, error) {
	path, err := filepath.Abs(configPath)
	if err != nil {
		return nil, err
	}
	kernel := linux.New(logger, cfg.Engine.Poll == conf.PollBusy, holder(store))
	former := store.Former()
	if former != nil {
		kernel.After(func() error { return store.Await(takeover.Layout()) })
	}
	kernel.OnStop(cfg.Engine.OnStop == conf.OnStopDrop, cfg.Engine.BPFDir)
	e, err := engine.Start(ctx, cfg, engine.Options{
		Logger:   logger,
		Version:  version,
		File:     path,
		Load:     func() (*conf.Config, []conf.Problem, error) { return LoadConfig(configPath) },
		Parse:    parseConfig,
		Platform: kernel,
		Early:    former != nil,
		Launched: former.Launched,
	})
	if err != nil {
		return nil, err // not e: a nil *engine.Engine is no nil balancer
	}
	return e, nil
}

// holder returns what holds descriptors beyond the end of this process, nil if nothing does.
func holder(store *estate.Store) steer.Holder {
	if !store.HasHolder() {
		return nil
	}
	return store
}
