package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Alive says whether every worker's loop goes round: it has each do nothing between two batches,
// and waits until that is done or ctx ends. The error names those that did not come round. It costs
// a worker one look at its mailbox, and one that sleeps a turn.
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
	return fmt.Errorf("of %d workers these do not turn: %s: %w", len(s.All), strings.Join(names, ", "), errors.Join(stuck...))
}
