// Package draft is a configuration converted from another program's file: what could be carried
// over, and a note with file and line for everything else. The importing packages fill it, Settle
// removes what Sluice would refuse, and TOML writes the file.
//
// The package starts no goroutine; a Draft belongs to one. It imports conf and pipeline/service.
package draft

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sluice/conf"
	"sluice/pipeline/service"
)

// Place is a line of the imported file, or of one that it includes.
type Place struct {
	File string
	Line int // from 1; 0: the file as a whole
}

// String returns "keepalived.conf:12".
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Error is an error that makes a whole file unreadable.
type Error struct {
	Place
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Place, clip(e.Text)) }

// Note is about one directive that was not carried over, or was changed.
type Note struct {
	Place
	Text string
}

// String returns "keepalived.conf:12: notify_up: ...".
func (n Note) String() string { return n.Place.String() + ": " + n.Text }

// Service is a service and its origin.
type Service struct {
	conf.Service // without its backends
	From         Place
	Backends     []Backend
}

// Backend is a backend and its origin.
type Backend struct {
	conf.Backend
	From Place
}

// Draft is the result of an import. Only one goroutine may use it.
type Draft struct {
	Origin   string // the origin, for the head of the file
	Ports    []string
	Services []Service
	Notes    []Note

	names    map[string]int // of services that were added, with the last number appended to it
	backends int            // of services that were added
	large    bool           // services were left out because there are too many
	unlisted int            // notes beyond maxNotes
}

// Limits on what is imported: more than any box has, and little enough to convert in seconds.
const (
	MaxServices = conf.MaxServices
	MaxBackends = conf.MaxBackends
	maxNotes    = 100_000
)

// Note adds a note.
func (d *Draft) Note(at Place, format string, args ...any) {
	if len(d.Notes) >= maxNotes {
		d.unlisted++
		return
	}
	d.Notes = append(d.Notes, Note{at, clip(fmt.Sprintf(format, args...))})
}

// clip shortens a message that quotes a very long word of the file.
func clip(text string) string {
	if r := []rune(text); len(text) > 500 && len(r) > 500 {
		return string(r[:497]) + "..."
	}
	return text
}

// DefaultPort is the placeholder for the unknown interface.
const DefaultPort = "eth0"

// Config returns the draft as it is.
func (d *Draft) Config() *conf.Config {
	cfg := conf.New()
	for _, name := range d.Ports {
		cfg.Ports = append(cfg.Ports, conf.Port{Name: name, IO: conf.IOAuto})
	}
	if len(d.Ports) == 0 {
		cfg.Ports = []conf.Port{{Name: DefaultPort, IO: conf.IOAuto}}
	}
	for i := range d.Services {
		s := d.Services[i].Service
		s.Backends = nil
		for _, b := range d.Services[i].Backends {
			s.Backends = append(s.Backends, b.Backend)
		}
		cfg.Services = append(cfg.Services, s)
	}
	return cfg
}

// Add adds a service under a unique name: a second one of the same name gets its protocol appended,
// then a number. A service beyond the limits is left out, and Settle returns an error.
func (d *Draft) Add(s Service) {
	if len(d.Services) >= MaxServices || d.backends+len(s.Backends) > MaxBackends {
		d.large = true
		return
	}
	d.backends += len(s.Backends)
	if d.names == nil {
		d.names = map[string]int{}
	}
	if name := s.Name; name != "" && d.names[name] > 0 {
		name += "-" + s.Key.Protocol.String()
		s.Name = name
		for n := d.names[name] + 1; d.names[s.Name] > 0; n++ {
			s.Name = fmt.Sprintf("%s-%d", name, n)
			d.names[name] = n
		}
	}
	d.names[s.Name] = max(d.names[s.Name], 1)
	d.Services = append(d.Services, s)
}

// Full reports whether a service was left out because of the limits: there is no need to read on.
func (d *Draft) Full() bool { return d.large }

// ErrLarge means that a file has too many services or backends.
var ErrLarge = fmt.Errorf("has more than %d services or %d backends: split it", MaxServices, MaxBackends)

// ErrNothing means that no service is left.
var ErrNothing = errors.New("has no service that Sluice supports: nothing was imported")

// Settle removes the backends and services that Sluice would refuse and notes why, so that a valid
// configuration remains, and sorts the notes.
func (d *Draft) Settle() error {
	defer d.sortNotes()
	if d.large {
		return ErrLarge
	}
	for {
		d.dropEmpty()
		if len(d.Services) == 0 {
			return ErrNothing
		}
		text := string(conf.Format(d.Config(), nil))
		_, _, err := conf.Parse("draft", []byte(text), nil)
		if err == nil {
			return nil
		}
		var problems conf.Problems
		if !errors.As(err, &problems) || !d.drop(text, problems) {
			return err
		}
	}
}

// dropEmpty removes services without backends.
func (d *Draft) dropEmpty() {
	d.Services = slices.DeleteFunc(d.Services, func(s Service) bool {
		if len(s.Backends) == 0 {
			d.Note(s.From, "service %s is left out: it has no backend", s.Key)
		}
		return len(s.Backends) == 0
	})
}

// elsewhere matches references to lines of the draft, which the reader does not have.
var elsewhere = regexp.MustCompile(`,? (at|see) line \d+`)

// drop removes what the problems are about and reports whether it removed anything.
func (d *Draft) drop(text string, problems conf.Problems) bool {
	owners := ownersOf(text)
	bad := map[owner]string{}
	for _, p := range problems {
		key := p.Key[strings.LastIndex(p.Key, "]")+1:]
		why := strings.TrimPrefix(strings.TrimPrefix(key+": ", ".")+elsewhere.ReplaceAllString(p.Text, ""), ": ")
		for _, line := range append([]int{p.Line}, p.Also...) {
			if at := owners[min(line, len(owners)-1)]; at.service >= 0 && bad[at] == "" {
				bad[at] = why
			}
		}
	}
	services := d.Services[:0]
	for i, s := range d.Services {
		backends := s.Backends[:0]
		for j, b := range s.Backends {
			if why, ok := bad[owner{i, j}]; ok {
				d.Note(b.From, "backend %s of service %s is left out: %s", b.Key, s.Key, why)
				continue
			}
			backends = append(backends, b)
		}
		s.Backends = backends
		if why, ok := bad[owner{i, sorryServer}]; ok {
			d.Note(s.From, "sorry server %s of service %s is left out: %s", s.Sorry.Key, s.Key, why)
			s.Sorry = nil
			// Without a sorry server too few healthy backends are no reason to use none.
			s.Health.MinHealthy = conf.NewService().Health.MinHealthy
		}
		if why, ok := bad[owner{i, wholeService}]; ok {
			d.Note(s.From, "service %s is left out: %s", s.Key, why)
			continue
		}
		services = append(services, s)
	}
	d.Services = services
	return len(bad) > 0
}

// owner is the service that a line of the text belongs to, -1 for none, and the backend, or one of
// the constants below.
type owner struct{ service, backend int }

const (
	wholeService = -1
	sorryServer  = -2
)

// ownersOf returns the owner of each line, counted from 1. The headers are those that conf.Format
// writes.
func ownersOf(text string) []owner {
	at, backends := owner{-1, wholeService}, 0
	all := []owner{at}
	for line := range strings.Lines(text) {
		switch strings.TrimSpace(line) {
		case "[[service]]":
			at, backends = owner{at.service + 1, wholeService}, 0
		case "[service.sorry]":
			at.backend = sorryServer
		case "[[service.backend]]":
			at.backend = backends
			backends++
		}
		all = append(all, at)
	}
	return all
}

// sortNotes sorts the notes by line, the main file first, and removes duplicates.
func (d *Draft) sortNotes() {
	order := map[string]int{}
	for _, n := range d.Notes {
		if _, ok := order[n.File]; !ok {
			order[n.File] = len(order)
		}
	}
	slices.SortStableFunc(d.Notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line))
	})
	seen := map[Note]bool{}
	d.Notes = slices.DeleteFunc(d.Notes, func(n Note) bool {
		again := seen[n]
		seen[n] = true
		return again
	})
	if last := len(d.Notes) - 1; d.unlisted > 0 {
		d.Notes = append(d.Notes, Note{d.Notes[last].Place, fmt.Sprintf("%d more notes are not listed", d.unlisted)})
		d.unlisted = 0
	}
}

// TOML returns the file, with the notes at its head.
func (d *Draft) TOML() []byte {
	var b strings.Builder
	line := func(format string, args ...any) {
		text := strings.TrimRight("# "+fmt.Sprintf(format, args...), " ")
		b.WriteString(conf.Printable(text) + "\n")
	}
	line("Made from %s.", d.Origin)
	if len(d.Ports) == 0 {
		line("")
		line("NAME YOUR INTERFACES: below, [[port]] has %q as a placeholder: name the interfaces that lead to clients and backends.", DefaultPort)
	}
	if len(d.Notes) > 0 {
		line("")
		line("Not carried over, or not as it was:")
		for _, n := range d.Notes {
			line("  %s", n)
		}
	}
	b.WriteString("\n")
	from := map[service.Key]Place{}
	for _, s := range d.Services {
		from[s.Key] = s.From
	}
	b.Write(conf.Format(d.Config(), func(s *conf.Service) string { return from[s.Key].String() }))
	return []byte(b.String())
}
