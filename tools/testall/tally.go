package main

import "fmt"

// tally counts tests. Subtests count, and so does a test that has subtests.
type tally struct {
	passed, failed, skipped int
}

func (t *tally) add(o tally) {
	t.passed += o.passed
	t.failed += o.failed
	t.skipped += o.skipped
}

// String returns the totals as the last line of make test shows them.
func (t tally) String() string {
	return fmt.Sprintf("%d tests passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// reported are the variables in which gotestsum passes its totals to a command, as read takes them.
const reported = "$TESTS_TOTAL $TESTS_FAILED $TESTS_SKIPPED"

// read returns the totals that gotestsum reported. It counts a package that failed as a failed
// test, but not among all.
func read(totals string) (tally, error) {
	var all, failed, skipped int
	_, err := fmt.Sscan(totals, &all, &failed, &skipped)
	return tally{max(0, all-failed-skipped), failed, skipped}, err
}
