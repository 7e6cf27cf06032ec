package reference

import (
	"os"
	"testing"
)

// recorder is a testing.TB that records failures.
type recorder struct {
	testing.TB
	failed bool
}

func (t *recorder) Helper()               {}
func (t *recorder) Error(...any)          { t.failed = true }
func (t *recorder) Fatal(...any)          { t.failed = true }
func (t *recorder) Fatalf(string, ...any) { t.failed = true }

// TestChecksAndWrites: a stale README fails the test, or is written; nothing else is touched.
func TestChecksAndWrites(t *testing.T) {
	defer func() { *update = false }()
	const head = "# Words\n\n<!-- Written by `go test . -run Reference -update`. -->\n\n"
	for _, c := range []struct {
		name          string
		check         func(testing.TB, string)
		is, text, ask string // ask: README.md after an update
		fails         bool
	}{
		{"all current", Whole, "a\n", "a\n", "a\n", false},
		{"all stale", Whole, "a\n", "b\n", "b\n", true},
		{"rest current", Rest, head + "a\n", "a\n", head + "a\n", false},
		{"rest stale", Rest, head + "a\n", "b\n", head + "b\n", true},
	} {
		t.Chdir(t.TempDir())
		if err := os.WriteFile("README.md", []byte(c.is), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, *update = range []bool{false, true} {
			test := &recorder{TB: t}
			c.check(test, c.text)
			want := c.is
			if *update {
				want = c.ask
			}
			if got := read(t); got != want || test.failed != (c.fails && !*update) {
				t.Errorf("%s, update %v: failed %v, %q", c.name, *update, test.failed, got)
			}
		}
	}
}

// TestLostMark: a README without the mark is not written as a whole.
func TestLostMark(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("README.md", []byte("# Words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() {
		defer func() { ended <- recover() != nil }()
		Rest(&fatal{TB: t}, "a\n")
	}()
	if !<-ended {
		t.Error("a lost mark is no failure")
	}
	if got := read(t); got != "# Words\n" {
		t.Errorf("%q", got)
	}
}

// fatal ends the goroutine, as a failed test does.
type fatal struct{ testing.TB }

func (*fatal) Helper()                      {}
func (*fatal) Fatalf(text string, _ ...any) { panic(text) }
