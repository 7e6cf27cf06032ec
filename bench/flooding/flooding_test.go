package flooding

import (
	"strings"
	"testing"
)

// TestAssess: a result that misses a goal says so, in the table too, and one that misses none is
// silent.
func TestAssess(t *testing.T) {
	good := Result{
		Case: Case{Name: "syn/nat/1", Mode: "nat", Live: 2000}, Identity: "exact", CalmS: 5,
		During: Opened{Asked: 12000, Late: 12}, Own: Opened{Asked: 1000, Failed: 50},
	}
	for what, change := range map[string]func(*Result){
		"":                 func(*Result) {},
		"were late":        func(r *Result) { r.During.Late++ },
		"after the flood":  func(r *Result) { r.After = Opened{Asked: 10, Failed: 1} },
		"live connections": func(r *Result) { r.Broken = 1 },
		"succeeded":        func(r *Result) { r.Mode = "dr" },
		"no calm":          func(r *Result) { r.CalmS = -1 },
		"counters do not":  func(r *Result) { r.Identity = "rx 5, but" },
	} {
		r := good
		change(&r)
		r.assess()
		if len(r.Missed) > 1 || (len(r.Missed) == 1) != (what != "") || !strings.Contains(strings.Join(r.Missed, ""), what) {
			t.Errorf("%q: missed %q", what, r.Missed)
		}
		if row := Table([]Result{r}); !strings.Contains(row, "| syn/nat/1 | ") || !strings.Contains(row, what) {
			t.Errorf("%q: the table is\n%s", what, row)
		}
	}
}

// TestCases: all names differ, and a table that the flood fills in a second holds the connections
// that last.
func TestCases(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range Cases() {
		if names[c.Name] {
			t.Errorf("two cases are named %s", c.Name)
		}
		names[c.Name] = true
		if entries := max(c.Entries, fills(c.Rate)); c.Entries == 0 && entries < c.Live || c.Entries > 0 && c.Entries < 2*c.Live {
			t.Errorf("%s: %d connections last, with %d entries", c.Name, c.Live, entries)
		}
	}
	if n := fills(30_000); n != 16384 {
		t.Errorf("a flood of 30,000 per second gets a table of %d", n)
	}
}
