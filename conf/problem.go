package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one error or warning about a configuration file.
type Problem struct {
	File string // as given to Load or Parse
	Line int    // from 1; 0: the file as a whole
	Key  string // for example `service["web"].backend[0].weight`; "": not about one key
	Text string // what is wrong, what is allowed, what to do
}

// Error returns "sluice.toml:31: service["web"].backend[0].weight: -1 is out of range; allowed:
// ...".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		b.WriteString(": ")
		b.WriteString(p.Key)
	}
	b.WriteString(": ")
	b.WriteString(p.Text)
	return b.String()
}

// Problems is all errors of a file, sorted by line. Load and Parse return it as their error.
type Problems []Problem

// Error returns one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// report collects problems while a file is read. After a problem reading continues with the default
// in place of the invalid value, so that one run finds all.
type report struct {
	file     string
	errors   Problems
	warnings []Problem
	unlisted int // errors beyond maxProblems
}

// maxProblems limits the errors, and the warnings, that are listed. A file that is not a
// configuration of Sluice can have a million.
const maxProblems = 10_000

func (r *report) fail(at *place, format string, args ...any) {
	if !r.full() {
		r.errors = append(r.errors, Problem{r.file, at.line, at.path(), fmt.Sprintf(format, args...)})
	}
}

// full reports whether no more errors are listed, and counts one that is not.
func (r *report) full() bool {
	if len(r.errors) < maxProblems {
		return false
	}
	r.unlisted++
	return true
}

func (r *report) warn(at *place, format string, args ...any) {
	if len(r.warnings) < maxProblems {
		r.warnings = append(r.warnings, Problem{r.file, at.line, at.path(), fmt.Sprintf(format, args...)})
	}
}

// result returns the results of Parse, in an order that depends on the file only.
func (r *report) result(cfg *Config) (*Config, []Problem, error) {
	byLine := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	}
	slices.SortFunc(r.errors, byLine)
	slices.SortFunc(r.warnings, byLine)
	if r.unlisted > 0 {
		last := r.errors[len(r.errors)-1]
		r.errors = append(r.errors, Problem{r.file, last.Line, "", fmt.Sprintf("%d more errors are not listed", r.unlisted)})
	}
	if len(r.errors) > 0 {
		return nil, r.warnings, r.errors
	}
	return cfg, r.warnings, nil
}
