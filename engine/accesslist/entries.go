package accesslist

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/pipeline/service"
)

// Entry is a prefix that an operator allowed or denied at run time.
type Entry struct {
	Service service.Key // zero: all services
	Prefix  netip.Prefix
	Deny    bool
	Until   time.Time // zero: until it is cleared
	Since   time.Time
}

// EntryKey identifies an entry: there is one for each service and prefix.
type EntryKey struct {
	Service service.Key
	Prefix  netip.Prefix
}

// Key returns what identifies the entry.
func (o Entry) Key() EntryKey { return EntryKey{o.Service, o.Prefix} }

// from says where the entry is from, for Explain.
func (o Entry) from() string {
	text := "set at run time"
	if !o.Until.IsZero() {
		text += " until " + o.Until.Local().Format(time.DateTime)
	}
	return text
}

// Over reports whether the entry has ended at the given time.
func (o Entry) Over(now time.Time) bool { return !o.Until.IsZero() && !now.Before(o.Until) }

// Entries holds all entries, those of services that are not configured included. A value that is in
// force is never written: see With and Without.
type Entries map[EntryKey]Entry

// MaxEntries limits how many entries there can be: what is meant to last belongs to a file.
const MaxEntries = 65536

// With returns a copy of o with an entry, which replaces that of the same service and prefix.
func (o Entries) With(entry Entry) Entries {
	next := maps.Clone(o)
	if next == nil {
		next = make(Entries)
	}
	next[entry.Key()] = entry
	return next
}

// Without returns a copy of o without some entries, and these, sorted.
func (o Entries) Without(drop func(Entry) bool) (next Entries, dropped []Entry) {
	next = make(Entries)
	for key, entry := range o {
		if drop(entry) {
			dropped = append(dropped, entry)
		} else {
			next[key] = entry
		}
	}
	slices.SortFunc(dropped, compare)
	return next, dropped
}

// Sorted returns the entries by service and prefix, those of all services first.
func (o Entries) Sorted() []Entry { return slices.SortedFunc(maps.Values(o), compare) }

func compare(a, b Entry) int {
	return cmp.Or(a.Service.Address.Compare(b.Service.Address), cmp.Compare(a.Service.Ports.First, b.Service.Ports.First),
		cmp.Compare(a.Service.Ports.Last, b.Service.Ports.Last), cmp.Compare(a.Service.Protocol, b.Service.Protocol),
		a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

// byService returns the entries in force by service, sorted.
func (o Entries) byService(now time.Time) map[service.Key][]Entry {
	of := make(map[service.Key][]Entry)
	for _, entry := range o {
		if !entry.Over(now) {
			of[entry.Service] = append(of[entry.Service], entry)
		}
	}
	for _, entries := range of {
		slices.SortFunc(entries, compare)
	}
	return of
}

// NextEnd returns the time of the first entry to end after now, or the zero time.
func (o Entries) NextEnd(now time.Time) (first time.Time) {
	for _, entry := range o {
		if entry.Until.After(now) && (first.IsZero() || entry.Until.Before(first)) {
			first = entry.Until
		}
	}
	return first
}

// File is the name of the file that holds the entries in the state directory.
const File = "access.json"

// version is the version of the stored form that this program reads and writes.
const version = 1

type storedEntries struct {
	Version int      `json:"version"`
	Entries []stored `json:"entries"`
}

type stored struct {
	Protocol string    `json:"protocol,omitempty"` // without: all services
	Address  string    `json:"address,omitempty"`
	Ports    string    `json:"ports,omitempty"`
	Prefix   string    `json:"prefix"`
	Deny     bool      `json:"deny"`
	Until    time.Time `json:"until,omitzero"`
	Since    time.Time `json:"since"`
}

// Encode returns the stored form of o. Equal entries have equal stored forms.
func (o Entries) Encode() ([]byte, error) {
	out := storedEntries{Version: version, Entries: []stored{}}
	for _, entry := range o.Sorted() {
		s := stored{Prefix: entry.Prefix.String(), Deny: entry.Deny, Until: entry.Until, Since: entry.Since}
		if key := entry.Service; key != (service.Key{}) {
			s.Protocol, s.Address, s.Ports = key.Protocol.String(), key.Address.String(), key.Ports.String()
		}
		out.Entries = append(out.Entries, s)
	}
	data, err := json.MarshalIndent(out, "", "  ")
	return append(data, '\n'), err
}

// Parse reads the stored form. It returns every entry that is valid, and an error that names each
// one that is not.
func Parse(data []byte) (Entries, error) {
	all := make(Entries)
	var in storedEntries
	if err := json.Unmarshal(data, &in); err != nil {
		return all, err
	}
	if in.Version != version {
		return all, fmt.Errorf("it has version %d; this program knows %d", in.Version, version)
	}
	var errs []error
	for _, s := range in.Entries {
		entry, err := s.parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("prefix %q of %s %s:%s: %w", s.Prefix, s.Protocol, s.Address, s.Ports, err))
			continue
		}
		all[entry.Key()] = entry
	}
	return all, errors.Join(errs...)
}

func (s stored) parse() (Entry, error) {
	o := Entry{Deny: s.Deny, Until: s.Until, Since: s.Since}
	prefix, wrong := conf.ParsePrefix(s.Prefix)
	if wrong != "" {
		return o, errors.New(wrong)
	}
	o.Prefix = prefix
	if s.Protocol == "" && s.Address == "" && s.Ports == "" {
		return o, nil
	}
	of, err := service.ParseKey(s.Protocol, s.Address, s.Ports)
	o.Service = of
	return o, err
}
