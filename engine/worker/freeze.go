package worker

import (
	"context"
	"sync"
)

// Freeze stops all workers between two batches, at one barrier: from its return on none of them
// moves a frame or writes to a table, until thaw is called. Without thaw they stay so until the
// process ends. On error, all workers go on.
//
// A frozen worker gives no heartbeat and answers no request: it is for a moment, or for ever.
func (s *Set) Freeze(ctx context.Context) (thaw func(), err error) {
	released := make(chan struct{})
	thaw = sync.OnceFunc(func() { close(released) })
	errs := make([]error, len(s.All))
	var arriving sync.WaitGroup
	for i, w := range s.All {
		arriving.Go(func() { errs[i] = w.halt(ctx, released) })
	}
	arriving.Wait()
	if err := s.named(errs); err != nil {
		thaw()
		return nil, err
	}
	return thaw, nil
}

// halt has the worker wait for released, and returns when it does. After an error it goes on, or
// does so as soon as released is closed.
func (w *Worker) halt(ctx context.Context, released <-chan struct{}) error {
	halted := make(chan struct{})
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		failed <- w.Do(asking, func() {
			close(halted)
			<-released
		})
	}()
	select {
	case <-halted:
		return nil
	case err := <-failed:
		return err
	}
}
