// Package pause waits, for measurements and long runs that can be stopped.
package pause

import (
	"context"
	"time"
)

// For waits for d, and returns nil. If ctx ends first, it returns its error.
func For(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
