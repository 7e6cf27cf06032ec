package main

import (
	"fmt"
	"io"
	"time"
)

// report is a table of what is allowed and what was seen.
type report struct{ rows []row }

type row struct {
	what, allowed, seen string
	ok                  bool
	timed               bool // it depends on the speed of the machine
}

func (r *report) add(what, allowed, seen string, ok bool) {
	r.rows = append(r.rows, row{what: what, allowed: allowed, seen: seen, ok: ok})
}

// atMost adds a row for a number.
func (r *report) atMost(what string, seen, allowed int) {
	r.add(what, fmt.Sprint(allowed), fmt.Sprint(seen), seen <= allowed)
}

// within adds a row for a time.
func (r *report) within(what string, seen, allowed time.Duration) {
	r.rows = append(r.rows, row{what, fmt.Sprint(allowed), fmt.Sprint(seen.Round(time.Millisecond)), seen <= allowed, true})
}

// wrong returns how many rows are wrong.
func (r *report) wrong() (n int) {
	for _, row := range r.rows {
		if !row.ok {
			n++
		}
	}
	return n
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "\n%-46s %14s %14s\n", "", "allowed", "seen")
	for _, row := range r.rows {
		verdict := ""
		if !row.ok {
			verdict = "  WRONG"
		}
		fmt.Fprintf(out, "%-46s %14s %14s%s\n", row.what, row.allowed, row.seen, verdict)
	}
}
