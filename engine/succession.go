package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/platform"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/service"
)

// freezeTime is how long the workers may take to stop for a successor.
const freezeTime = time.Second

// Succeed lets another process take the place of this one. It calls prepare with the text of the
// running configuration, which no one can change from then on. prepare returns the takeover.Layout
// of the other process. Then Succeed stops the workers, and calls give, which is to give the other
// process all that outlives this one.
//
// After an error the engine goes on, as if nothing had been. Otherwise it writes nothing any more;
// requests that change nothing are answered for what they were.
func (e *Engine) Succeed(ctx context.Context, prepare func(config string) (layout string, err error), give func() error) error {
	leaver, able := e.platform.(platform.Leaver)
	if !able {
		return errors.New("the platform of the engine cannot be handed over")
	}
	if err := e.begin(ctx); err != nil {
		return err
	}
	defer e.changeMu.Unlock()
	if err := e.notWaiting(); err != nil {
		return err
	}
	cfg, _ := e.current()
	layout, err := prepare(cfg.Text)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errClosed
	}
	freezing, cancel := context.WithTimeout(ctx, freezeTime)
	defer cancel()
	thaw, err := e.workers.Freeze(freezing)
	if err != nil {
		return err
	}
	if err = e.takeover.KeepRecords(layout, &e.compiled, e.workers); err == nil {
		err = leaver.Leave(give)
	}
	if err != nil {
		e.takeover.ForgetRecords()
		thaw()
		return err
	}
	e.closed = true
	close(e.closing)
	e.stop()
	return nil
}

// prepareEarly makes before the ports are opened what does not depend on them, if Options.Early
// asks for it. memory is that of the workers' tables, by their names.
func (e *Engine) prepareEarly(cfg *conf.Config, cores []int) (memory func(name string, bytes, core int) ([]byte, error), err error) {
	if !e.opts.Early {
		return e.platform.Memory, nil
	}
	made := make(map[string][]byte)
	for w, core := range cores {
		for _, family := range []int{4, 6} {
			name := worker.TableName(w, family)
			if made[name], err = e.platform.Memory(name, pipeline.TableBytes(family, len(cores), cfg.Engine.Connections), core); err != nil {
				return nil, fmt.Errorf("connection table beside that of the process that runs: %w", err)
			}
		}
	}
	var replies []service.Key // about those that the steering rules will have
	for _, s := range cfg.Services {
		if slices.ContainsFunc(s.Servers(), func(b conf.Backend) bool { return b.Mode == service.NAT }) {
			replies = append(replies, s.Key)
		}
	}
	e.kernel.Want(replies)
	return func(name string, bytes, core int) ([]byte, error) {
		if mem := made[name]; len(mem) >= bytes {
			return mem, nil
		}
		return e.platform.Memory(name, bytes, core)
	}, nil
}
