package main

import (
	"context"
	"errors"
	"log/slog"

	"sluice/conf"
)

// loadConfig reads a file and checks it against this machine: the one way in which check, run and reload do it.
func loadConfig(path string) (*conf.Config, []conf.Problem, error) {
	host, err := thisHost()
	if err != nil {
		return nil, nil, err
	}
	return conf.Load(path, host)
}

// startEngine starts the machine that a configuration describes.
func startEngine(context.Context, *conf.Config, string, *slog.Logger) (machine, error) {
	return nil, errors.New("this build has no engine")
}
