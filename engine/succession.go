package engine

import (
	"context"
	"errors"
	"time"

	"sluice/engine/platform"
)

// freezeTime is how long the workers may take to stop for a successor.
const freezeTime = time.Second

// Succeed lets another process take the place of this one. It calls prepare with the text of the
// running configuration, which no one can change from then on. When that has returned, it stops the
// workers, and calls give, which is to give the other process all that outlives this one.
//
// After an error the engine goes on, as if nothing had been. Otherwise it writes nothing any more;
// requests that change nothing are answered for what they were.
func (e *Engine) Succeed(ctx context.Context, prepare func(config string) error, give func() error) error {
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
	if err := prepare(cfg.Text); err != nil {
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
	if err := leaver.Leave(give); err != nil {
		thaw()
		return err
	}
	e.closed = true
	close(e.closing)
	e.stop()
	return nil
}
