package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Tally is what became of tests. Subtests count, and a test whose subtests ran counts as well.
type Tally struct {
	Packages, Passed, Failed int
	Skipped                  []string // "package.Test: reason"
}

func (t *Tally) add(o Tally) {
	t.Packages += o.Packages
	t.Passed += o.Passed
	t.Failed += o.Failed
	t.Skipped = append(t.Skipped, o.Skipped...)
}

// String gives the totals as the last line of make test shows them.
func (t Tally) String() string {
	return fmt.Sprintf("%d tests passed, %d failed, %d skipped in %d packages", t.Passed, t.Failed, len(t.Skipped), t.Packages)
}

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	Test       string // "": the package as a whole
	ImportPath string // of a package that does not build
	Output     string
	Elapsed    float64 // seconds
}

// count reads the output of `go test -json`, prints a line for each package and all that a failed
// test printed.
func count(from io.Reader, to io.Writer) (total Tally) {
	type name struct{ pkg, test string }
	output := map[name]*strings.Builder{} // of tests that still run
	perPackage := map[string]*Tally{}
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		var e event
		if line != "" && json.Unmarshal([]byte(line), &e) != nil {
			fmt.Fprint(to, line) // not for us: what go itself has to say
		}
		id := name{e.Package, e.Test}
		tally := perPackage[e.Package]
		if tally == nil {
			tally = &Tally{}
			perPackage[e.Package] = tally
		}
		switch e.Action {
		case "output":
			if output[id] == nil {
				output[id] = &strings.Builder{}
			}
			output[id].WriteString(e.Output)
		case "build-output":
			fmt.Fprint(to, e.Output)
		case "pass", "fail", "skip":
			text := ""
			if output[id] != nil {
				text = output[id].String()
				delete(output, id)
			}
			if e.Action == "fail" {
				fmt.Fprint(to, text)
			}
			if e.Test == "" {
				tally.finish(e, to)
				total.add(*tally)
				break
			}
			tally.note(e, text)
		}
		if err != nil {
			return total
		}
	}
}

// note counts the end of one test.
func (t *Tally) note(e event, output string) {
	switch e.Action {
	case "pass":
		t.Passed++
	case "fail":
		t.Failed++
	case "skip":
		t.Skipped = append(t.Skipped, fmt.Sprintf("%s.%s: %s", e.Package, e.Test, reason(output)))
	}
}

// finish counts the end of a package and prints its line. A package that fails without a failed
// test did not build, or died outside of all tests.
func (t *Tally) finish(e event, to io.Writer) {
	t.Packages++
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
		t.Failed = max(t.Failed, 1)
	}
	fmt.Fprintf(to, "%s %-32s %4d passed %3d failed %3d skipped %7.1f s\n", word, e.Package, t.Passed, t.Failed, len(t.Skipped), e.Elapsed)
}

// reason finds in the output of a skipped test what it said: the line after "file_test.go:12: ".
func reason(output string) string {
	for line := range strings.Lines(output) {
		if _, text, found := strings.Cut(line, "_test.go:"); found {
			if _, text, found = strings.Cut(text, ": "); found {
				return strings.TrimSpace(text)
			}
		}
	}
	return "without a reason"
}
