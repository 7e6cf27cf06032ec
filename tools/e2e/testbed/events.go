package testbed

import (
	"bufio"
	"io"
	"strings"
)

// Events reads an answer of /v1/events.
type Events struct {
	lines *bufio.Scanner
	name  string
}

// NewEvents returns the Events of an answer's body. The caller closes the body.
func NewEvents(body io.Reader) *Events {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	return &Events{lines: lines}
}

// Next returns the name and data of the next event. ok is false at the end of the body; Err then
// says why.
func (e *Events) Next() (name, data string, ok bool) {
	for e.lines.Scan() {
		if word, is := strings.CutPrefix(e.lines.Text(), "event: "); is {
			e.name = word
		}
		if data, is := strings.CutPrefix(e.lines.Text(), "data: "); is {
			return e.name, data, true
		}
	}
	return "", "", false
}

// Err returns why there are no more events; nil: the body has ended.
func (e *Events) Err() error { return e.lines.Err() }
