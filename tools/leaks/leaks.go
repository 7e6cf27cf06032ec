// Package leaks checks in tests that no goroutine is left behind. It is goleak that waits longer:
// goleak waits for half a second, which on a busy machine is too short for goroutines that are
// about to end.
package leaks

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// waitLimit is how long goroutines may take to end.
const waitLimit = 20 * time.Second

// Main runs the tests of a package and ends the process. They fail if goroutines are left.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		if err := Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "after the tests:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Find returns nil as soon as no goroutine is left that the options do not ignore.
func Find(options ...goleak.Option) (err error) {
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
