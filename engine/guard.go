package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/conf"
	"sluice/pipeline/service"
)

// endMark is the last line of a file that says where it ends: whoever writes it is told when the
// rest of the file did not arrive, even if the beginning has changed too.
const endMark = "# end"

// guard says why a file that is valid should still not take the place of what runs: it looks as if
// a part of it were missing. TOML that is cut between two lines is TOML, so validity says nothing
// about that. wrong says that the last file read was refused. nil: nothing looks wrong.
func guard(now, next *conf.Config, wrong bool) error {
	if len(conf.Diff(now, next)) == 0 {
		return nil
	}
	if err := errors.Join(cut(now.Text, next.Text, wrong), removesMost(now, next)); err != nil {
		return suspect{err}
	}
	return nil
}

// suspect is the refusal of a file that is valid.
type suspect struct{ error }

// cut says that a text is the beginning of another, or lost the mark at its end. The beginning up
// to a [[service]] or [[service.backend]] is how a file looks whose last one somebody took out:
// that is believed, unless the last file was refused, for then it is more likely that one file is
// still being written, or that what wrote it failed.
func cut(now, next string, wrong bool) error {
	whole := strings.HasSuffix(next, "\n") && !wrong && endsBeforeTable(now, next)
	now, next = strings.TrimRight(now, " \t\r\n"), strings.TrimRight(next, " \t\r\n")
	switch {
	case whole:
	case len(next) < len(now) && strings.HasPrefix(now, next):
		return fmt.Errorf("the file looks cut off: it is the beginning of the one that runs and ends at line %d of %d", 1+strings.Count(next, "\n"), 1+strings.Count(now, "\n"))
	case lastLine(now) == endMark && lastLine(next) != endMark:
		return fmt.Errorf("the file looks cut off: the one that runs ends with a line %q, this one with %q", endMark, lastLine(next))
	}
	return nil
}

// endsBeforeTable says that what a text has beyond its beginning starts with a table of an array.
func endsBeforeTable(text, beginning string) bool {
	rest, is := strings.CutPrefix(text, beginning)
	return is && strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "[[") && lastLine(strings.TrimRight(text, " \t\r\n")) != endMark
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// removesMost says that more than half of the services or of all backends would be gone.
func removesMost(now, next *conf.Config) error {
	g := compare(now, next)
	var errs []error
	say := func(gone []string, of int, what string) {
		if 2*len(gone) > of {
			errs = append(errs, fmt.Errorf("the file removes %d of %d %s, which is more than half: %s",
				len(gone), of, what, listSome(gone)))
		}
	}
	say(g.services, g.servicesNow, "services")
	say(g.backends, g.backendsNow, "backends")
	return errors.Join(errs...)
}

// gone is what a new configuration does not have any more, in words.
type gone struct {
	services, backends       []string
	servicesNow, backendsNow int // how many run
}

func compare(now, next *conf.Config) (g gone) {
	services, backends := make(map[service.Key]bool), make(map[service.BackendID]bool)
	for _, s := range next.Services {
		services[s.Key] = true
		for _, b := range s.Backends {
			backends[s.Key.BackendID(b.Key)] = true
		}
	}
	for _, s := range now.Services {
		g.servicesNow++
		g.backendsNow += len(s.Backends)
		if !services[s.Key] {
			g.services = append(g.services, s.Name)
		}
		for _, b := range s.Backends {
			if !backends[s.Key.BackendID(b.Key)] {
				g.backends = append(g.backends, s.Name+" "+b.Key.String())
			}
		}
	}
	return g
}

// listSome names the first few of many.
func listSome(names []string) string {
	const few = 5
	if len(names) > few {
		names = append(slices.Clone(names[:few]), fmt.Sprintf("and %d more", len(names)-few))
	}
	return strings.Join(names, ", ")
}
