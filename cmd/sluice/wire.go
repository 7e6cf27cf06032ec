package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"sluice/conf"
	"sluice/engine"
)

// loadConfig reads a file and checks it against this machine: the one way in which check, run and
// reload do it.
func loadConfig(path string) (*conf.Config, []conf.Problem, error) {
	host, err := thisHost()
	if err != nil {
		return nil, nil, err
	}
	return conf.Load(path, host)
}

// parseConfig does the same with a text; name stands for the file in messages.
func parseConfig(name string, text []byte) (*conf.Config, []conf.Problem, error) {
	host, err := thisHost()
	if err != nil {
		return nil, nil, err
	}
	return conf.Parse(name, text, host)
}

// startEngine starts the machine that a configuration describes; its Reload reads the same file.
func startEngine(ctx context.Context, cfg *conf.Config, configPath string, logger *slog.Logger) (machine, error) {
	path, err := filepath.Abs(configPath)
	if err != nil {
		return nil, err
	}
	e, err := engine.Start(ctx, cfg, engine.Options{
		Logger:  logger,
		Version: version,
		File:    path,
		Load:    func() (*conf.Config, []conf.Problem, error) { return loadConfig(configPath) },
		Parse:   parseConfig,
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}
