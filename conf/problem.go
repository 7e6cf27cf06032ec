package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one error or warning about a configuration file.
type Problem struct {
	File   string // as given to Load or Parse
	Line   int    // from 1; 0: the file as a whole
	Column int    // of a syntax error, in characters from 1; 0: unknown
	Key    string // for example `service["web"].backend[0].weight`; "": not about one key
	Text   string // what is wrong, what is allowed, what to do
	Also   []int  // further lines with a problem like this one, of other elements; sorted
}

// Error returns "sluice.toml:31: service["web"].backend[0].weight: -1 is out of range; allowed:
// ...".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Column > 0 {
		fmt.Fprintf(&b, ":%d", p.Column)
	}
	if p.Key != "" {
		b.WriteString(": ")
		b.WriteString(p.Key)
	}
	b.WriteString(": ")
	b.WriteString(p.Text)
	if n := len(p.Also); n > 0 {
		fmt.Fprintf(&b, "; %d more like this one, the last at line %d", n, p.Also[n-1])
	}
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
	file        string
	lists       map[string]*PrefixFile // files of prefixes by path; nil: it has errors
	errors      problemList
	warnings    problemList
	suggestions map[[2]string]string // of unknown keys, by section and key
}

// A problemList collects problems. Those that are equal but for the element that they are about
// become one, with the lines of the others, when there are more than maxAlike.
type problemList struct {
	kinds    map[[2]string]*kind // by key without elements, and text
	listed   int                 // number of kinds
	unlisted int                 // problems that are not in kinds, because there are too many
}

// A kind is problems that are alike.
type kind struct {
	some  []Problem // the first maxAlike
	lines []int     // of the others
}

const (
	// maxProblems limits the errors, and the warnings, that are listed. A file that is not a
	// configuration of Sluice can have a million.
	maxProblems = 10_000
	// maxAlike limits the problems that are listed one by one although they are alike.
	maxAlike = 10
)

func (l *problemList) add(key string, p Problem) {
	id := [2]string{key, p.Text}
	k := l.kinds[id]
	switch {
	case k == nil && l.full():
		l.unlisted++
	case k == nil:
		if l.kinds == nil {
			l.kinds = make(map[[2]string]*kind)
		}
		l.kinds[id] = &kind{some: []Problem{p}}
		l.listed++
	case len(k.some) < maxAlike:
		k.some = append(k.some, p)
	default:
		k.lines = append(k.lines, p.Line)
	}
}

// full reports whether no further kind of problem is listed.
func (l *problemList) full() bool { return l.listed >= maxProblems }

// sorted returns the problems, in an order that depends on the file only.
func (l *problemList) sorted() []Problem {
	byLine := func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	}
	all := []Problem(nil)
	for _, k := range l.kinds {
		if len(k.lines) == 0 {
			all = append(all, k.some...)
			continue
		}
		slices.SortFunc(k.some, byLine)
		p := k.some[0]
		for _, other := range k.some[1:] {
			k.lines = append(k.lines, other.Line)
		}
		slices.Sort(k.lines)
		p.Also = k.lines
		all = append(all, p)
	}
	slices.SortFunc(all, byLine)
	return all
}

func (r *report) fail(at *place, format string, args ...any) {
	r.errors.add(at.kind(), Problem{File: r.file, Line: at.line, Key: at.path(), Text: fmt.Sprintf(format, args...)})
}

func (r *report) warn(at *place, format string, args ...any) {
	r.warnings.add(at.kind(), Problem{File: r.file, Line: at.line, Key: at.path(), Text: fmt.Sprintf(format, args...)})
}

// suggest is suggestion, which is computed once for each key: a file can have a million of them.
func (r *report) suggest(section, key string) string {
	id := [2]string{section, key}
	text, known := r.suggestions[id]
	if !known {
		if r.suggestions == nil {
			r.suggestions = make(map[[2]string]string)
		}
		text = suggestion(section, key)
		r.suggestions[id] = text
	}
	return text
}

// result returns the results of Parse.
func (r *report) result(cfg *Config) (*Config, []Problem, error) {
	problems, warnings := Problems(r.errors.sorted()), r.warnings.sorted()
	if r.errors.unlisted > 0 {
		last := problems[len(problems)-1]
		problems = append(problems, Problem{File: r.file, Line: last.Line, Text: fmt.Sprintf("%d more errors are not listed", r.errors.unlisted)})
	}
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return cfg, warnings, nil
}
