// Package accesslist compiles who may open connections: the lists of a configuration, and the
// prefixes that operators allow and deny at run time. Everything here is a value: there is no
// clock, no lock and no file.
//
// What an operator set takes the place of what the configuration's lists say about the same
// prefix. Otherwise the longest prefix decides, wherever it is from.
package accesslist

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/access"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Lists is what is in force. It is immutable. The zero Lists allow all clients.
type Lists struct {
	version  uint64
	all      scope
	services map[service.Key]scope // without those that allow all clients
}

// scope is the lists of one service, or of all.
type scope struct {
	conf    conf.Access
	entries []Entry // in force, in order
	table   *access.Table
}

// files are lists that consist of files only: services that share them share a table.
type files struct{ allow, deny *conf.PrefixFile }

// Compile returns the lists for a configuration and the entries in force at the given time. Tables
// of lists that did not change are those of before, which may be nil. If none has, it returns
// before.
func Compile(cfg *conf.Config, entries Entries, now time.Time, before *Lists) *Lists {
	if before == nil {
		before = new(Lists)
	}
	of := entries.byService(now)
	next := &Lists{version: before.version + 1, services: make(map[service.Key]scope)}
	changed := false
	shared := make(map[files]*access.Table)
	compile := func(a *conf.Access, entries []Entry, was scope) scope {
		if a.Equal(&was.conf) && slices.Equal(entries, was.entries) {
			return was
		}
		changed = true
		s := scope{conf: *a, entries: entries}
		only := len(entries)+len(a.Allow)+len(a.Deny) == 0 && a.Allow == nil
		key := files{a.AllowFile, a.DenyFile}
		if s.table = shared[key]; s.table == nil || !only {
			s.table = access.New(s.rules(), a.Restricted())
		}
		if only {
			shared[key] = s.table
		}
		return s
	}
	next.all = compile(&cfg.Access, of[service.Key{}], before.all)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		was, had := before.services[s.Key]
		if !s.Access.Empty() || len(of[s.Key]) > 0 {
			next.services[s.Key] = compile(&s.Access, of[s.Key], was)
		} else {
			changed = changed || had
		}
	}
	if !changed && len(next.services) == len(before.services) {
		return before
	}
	if next.all.conf.Empty() && len(next.all.entries) == 0 {
		next.all.table = nil
	}
	return next
}

// Version differs between lists that are compiled one after the other and are not the same. It is 0
// if l is nil.
func (l *Lists) Version() uint64 {
	if l == nil {
		return 0
	}
	return l.version
}

// Of returns the tables for a service: none if l is nil.
func (l *Lists) Of(key service.Key) pipeline.Lists {
	if l == nil {
		return pipeline.Lists{}
	}
	return pipeline.Lists{All: l.all.table, Own: l.services[key].table}
}

// rules returns the rules of the scope.
func (s *scope) rules() (rules []access.Rule) {
	s.each(func(r access.Rule, _ func() string) { rules = append(rules, r) })
	return rules
}

// each calls f for every rule, with a function that returns where the rule is from.
func (s *scope) each(f func(r access.Rule, from func() string)) {
	set := make(map[netip.Prefix]bool, len(s.entries))
	for _, o := range s.entries {
		set[o.Prefix] = true
		f(access.Rule{Prefix: o.Prefix, Deny: o.Deny}, o.from)
	}
	list := func(all []netip.Prefix, deny bool, from func(i int) string) {
		for i, p := range all {
			if !set[p] {
				f(access.Rule{Prefix: p, Deny: deny}, func() string { return from(i) })
			}
		}
	}
	file := func(file *conf.PrefixFile, deny bool) {
		if file != nil {
			list(file.Prefixes, deny, func(i int) string { return fmt.Sprintf("%s:%d", file.Path, file.Lines[i]) })
		}
	}
	list(s.conf.Allow, false, func(int) string { return "allow" })
	file(s.conf.AllowFile, false)
	list(s.conf.Deny, true, func(int) string { return "deny" })
	file(s.conf.DenyFile, true)
}

// Explain reports whether a client of a service is denied, and which list and prefix decide. The
// text is "" if there are no lists, or l is nil.
func (l *Lists) Explain(key service.Key, client netip.Addr) (denied bool, why string) {
	if l == nil {
		return false, ""
	}
	all, own := l.all, l.services[key]
	if all.table != nil && (own.table == nil || all.table.Denies(packet.AddrFrom(client))) {
		return all.explain("[access]", client)
	}
	if own.table != nil {
		return own.explain("[service.access]", client)
	}
	return false, ""
}

// explain is Explain for one scope, that of a section of the file.
func (s *scope) explain(section string, client netip.Addr) (denied bool, why string) {
	var rules []access.Rule
	var from []func() string
	s.each(func(r access.Rule, f func() string) { rules, from = append(rules, r), append(from, f) })
	i := access.Match(rules, client)
	switch {
	case i < 0 && s.conf.Restricted():
		return true, fmt.Sprintf("no prefix of %s allow has %s", section, client)
	case i < 0:
		return false, fmt.Sprintf("no prefix of %s has %s", section, client)
	case rules[i].Deny:
		return true, fmt.Sprintf("denied by %s of %s %s", rules[i].Prefix, section, from[i]())
	}
	return false, fmt.Sprintf("allowed by %s of %s %s", rules[i].Prefix, section, from[i]())
}
