package accesslist

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/state"
	"sluice/pipeline/service"
)

// Set returns the entries with what a request sets, and this. of is the service of the request, the
// zero Key for all services.
func (o Entries) Set(cfg *conf.Config, of service.Key, r api.AccessRequest, now time.Time) (Entries, api.AccessEntry, error) {
	prefix, err := parsePrefix(r.Prefix)
	if err != nil {
		return nil, api.AccessEntry{}, err
	}
	entry := Entry{Service: of, Prefix: prefix, Deny: r.Action == api.AccessDeny, Since: now}
	if r.ForS > 0 {
		entry.Until = now.Add(time.Duration(r.ForS * float64(time.Second)))
	}
	next := o.With(entry)
	if len(next) > MaxEntries {
		return nil, api.AccessEntry{}, api.BadRequest(fmt.Sprintf("%d prefixes are set at run time already, and no more are allowed; use deny_file and sluice access reload for long lists", len(o)))
	}
	return next, describe(cfg)(entry), nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	prefix, wrong := conf.ParsePrefix(text)
	if wrong != "" {
		return prefix, api.BadRequest(wrong + "; " + conf.AllowedPrefix(text))
	}
	return prefix, nil
}

// Clear returns the entries without those that the query selects, and these.
func (o Entries) Clear(cfg *conf.Config, q api.AccessQuery) (Entries, []api.AccessEntry, error) {
	var prefix netip.Prefix
	if q.Prefix != "" {
		var err error
		if prefix, err = parsePrefix(q.Prefix); err != nil {
			return nil, nil, err
		}
	}
	name := describe(cfg)
	next, dropped := o.Without(func(e Entry) bool {
		of := name(e).Service
		return q == api.AccessQuery{} || of == q.Service && (q.Prefix == "" || e.Prefix == prefix)
	})
	if len(dropped) == 0 && q != (api.AccessQuery{}) {
		return nil, nil, api.BadRequest(notSet(q))
	}
	cleared := make([]api.AccessEntry, len(dropped))
	for i, e := range dropped {
		cleared[i] = name(e)
	}
	return next, cleared, nil
}

// notSet is the error of a Clear that selects nothing.
func notSet(q api.AccessQuery) string {
	what, whom := "nothing", "for all services"
	if q.Prefix != "" {
		what = q.Prefix + " is not"
	}
	if q.Service != "" {
		whom = "for service " + q.Service
	}
	if what == "nothing" {
		return "nothing is set at run time " + whom + "; see sluice access list"
	}
	return what + " set at run time " + whom + "; see sluice access list"
}

// Describe returns the entries and the lists of a configuration.
func (o Entries) Describe(cfg *conf.Config) (all api.AccessLists) {
	name := describe(cfg)
	for _, e := range o.Sorted() {
		all.Entries = append(all.Entries, name(e))
	}
	add := func(of string, a *conf.Access) {
		if a.Empty() {
			return
		}
		l := api.AccessList{Service: of, Allow: len(a.Allow), Deny: len(a.Deny), Others: api.AccessAllow}
		if f := a.AllowFile; f != nil {
			l.Allow, l.AllowFile = l.Allow+len(f.Prefixes), f.Path
		}
		if f := a.DenyFile; f != nil {
			l.Deny, l.DenyFile = l.Deny+len(f.Prefixes), f.Path
		}
		if a.Restricted() {
			l.Others = api.AccessDeny
		}
		all.Lists = append(all.Lists, l)
	}
	add("", &cfg.Access)
	for i := range cfg.Services {
		add(cfg.Services[i].Name, &cfg.Services[i].Access)
	}
	return all
}

// describe returns a function that describes an entry.
func describe(cfg *conf.Config) func(Entry) api.AccessEntry {
	return func(e Entry) api.AccessEntry {
		out := api.AccessEntry{Prefix: e.Prefix.String(), Action: api.AccessAllow, Until: e.Until.Round(0), Since: e.Since.Round(0), Configured: true}
		if e.Deny {
			out.Action = api.AccessDeny
		}
		if e.Service == (service.Key{}) {
			return out
		}
		i := slices.IndexFunc(cfg.Services, func(s conf.Service) bool { return s.Key == e.Service })
		if out.Configured = i >= 0; out.Configured {
			out.Service = cfg.Services[i].Name
		} else {
			out.Service = e.Service.String()
		}
		return out
	}
}

// Load reads the entries from a store, without those that are over. A file with an invalid entry is
// set aside: it never prevents a start.
func Load(from *state.Store, now time.Time) Entries {
	data := from.Load(File)
	if data == nil {
		return nil
	}
	all, err := Parse(data)
	if err != nil {
		from.SetAside(File, err)
	}
	all, _ = all.Without(func(e Entry) bool { return e.Over(now) })
	return all
}

// Save writes the entries to a store.
func (o Entries) Save(to *state.Store) {
	if data, err := o.Encode(); err == nil { // it is made of values that all have a form in JSON
		to.Save(File, data)
	}
}
