package tables

import (
	"testing"

	"sluice/conf"
	"sluice/pipeline"
)

// TestNoLimits checks that a service of a file without limits has none in the tables: it would lose
// the fast path.
func TestNoLimits(t *testing.T) {
	s := conf.NewService()
	if l := limitsOf(&s.Limits); l != (pipeline.Limits{}) {
		t.Errorf("%+v", l)
	}
}
