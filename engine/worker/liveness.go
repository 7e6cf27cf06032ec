package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Alive returns nil if the loop of every worker is running. It has each worker call an empty
// function between two batches and waits until all have or ctx ends. The error names the workers
// that have not.
func (s *Set) Alive(ctx context.Context) error {
	stuck := make([]error, len(s.All))
	var asking sync.WaitGroup
	for i, w := range s.All {
		asking.Go(func() { stuck[i] = w.Do(ctx, func() {}) })
	}
	asking.Wait()
	var names []string
	for i, err := range stuck {
		if err != nil {
			names = append(names, fmt.Sprintf("%d (CPU %d)", i, s.All[i].cpu))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("of %d workers these do not respond: %s: %w", len(s.All), strings.Join(names, ", "), errors.Join(stuck...))
}
