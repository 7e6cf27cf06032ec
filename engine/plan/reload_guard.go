package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/conf"
	"sluice/pipeline/service"
)

// endMark is the last line of a file that marks its end. A running file with the mark is not
// replaced by one without it: the rest of that file has not arrived.
const endMark = "# end"

// Guard returns a Suspicious error if next is valid but looks as if a part of the file were
// missing: TOML that is cut between two lines is still valid TOML. lastRefused means that the last
// file that the daemon read was refused.
func Guard(running, next *conf.Config, lastRefused bool) error {
	if len(conf.Diff(running, next)) == 0 {
		return nil
	}
	if err := errors.Join(truncated(running.Text, next.Text, lastRefused), removesMost(running, next)); err != nil {
		return Suspicious{err}
	}
	return nil
}

// Suspicious is the refusal of a file that is valid. The operator may force the reload.
type Suspicious struct{ error }

// truncated returns an error if next is only the beginning of running, or has lost the end mark.
//
// A file without its last [[service]] or [[service.backend]] is such a beginning, too. It is
// accepted, unless the last file was refused: then it is more likely that the file is still being
// written, or that the program that writes it failed.
func truncated(running, next string, lastRefused bool) error {
	whole := strings.HasSuffix(next, "\n") && !lastRefused && endsBeforeTable(running, next)
	running, next = strings.TrimRight(running, " \t\r\n"), strings.TrimRight(next, " \t\r\n")
	switch {
	case whole:
	case len(next) < len(running) && strings.HasPrefix(running, next):
		return fmt.Errorf("the file looks cut off: it is the beginning of the running one and ends at line %d of %d",
			1+strings.Count(next, "\n"), 1+strings.Count(running, "\n"))
	case lastLine(running) == endMark && lastLine(next) != endMark:
		return fmt.Errorf("the file looks cut off: the running one ends with a line %q, this one with %q", endMark, lastLine(next))
	}
	return nil
}

// endsBeforeTable reports whether text continues after beginning with a table of an array, and has
// no end mark.
func endsBeforeTable(text, beginning string) bool {
	rest, is := strings.CutPrefix(text, beginning)
	return is && strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "[[") && lastLine(strings.TrimRight(text, " \t\r\n")) != endMark
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// removesMost returns an error if next lacks more than half of the running services or backends.
func removesMost(running, next *conf.Config) error {
	r := removedBy(running, next)
	var errs []error
	check := func(removed []string, of int, what string) {
		if 2*len(removed) > of {
			errs = append(errs, fmt.Errorf("the file removes %d of %d %s, which is more than half: %s",
				len(removed), of, what, listSome(removed)))
		}
	}
	check(r.services, r.runningServices, "services")
	check(r.backends, r.runningBackends, "backends")
	return errors.Join(errs...)
}

// removed lists what a new configuration lacks.
type removed struct {
	services, backends               []string
	runningServices, runningBackends int // how many there are now
}

func removedBy(running, next *conf.Config) (r removed) {
	services, backends := make(map[service.Key]bool), make(map[service.BackendID]bool)
	for _, s := range next.Services {
		services[s.Key] = true
		for _, b := range s.Backends {
			backends[s.Key.BackendID(b.Key)] = true
		}
	}
	for _, s := range running.Services {
		r.runningServices++
		r.runningBackends += len(s.Backends)
		if !services[s.Key] {
			r.services = append(r.services, s.Name)
		}
		for _, b := range s.Backends {
			if !backends[s.Key.BackendID(b.Key)] {
				r.backends = append(r.backends, s.Name+" "+b.Key.String())
			}
		}
	}
	return r
}

// listSome joins the first few names.
func listSome(names []string) string {
	const few = 5
	if len(names) > few {
		names = append(slices.Clone(names[:few]), fmt.Sprintf("and %d more", len(names)-few))
	}
	return strings.Join(names, ", ")
}
