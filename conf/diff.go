package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/service"
)

// Change is one difference between two configurations.
type Change struct {
	Text    string // for example "service web: backend 10.0.0.11:8080 weight 1 -> 0"
	Restart bool   // a running daemon cannot apply it; it needs a restart
}

// Diff returns the changes from old to new: engine, ports and API first, then services in the order
// of new, and removed ones last. Services are the same if their keys are equal, and so are
// backends: order, names and line numbers do not matter. Equal configurations have no changes.
func Diff(old, new *Config) []Change {
	d := &diff{}
	d.fields("engine: ", true, engineFields(old.Engine), engineFields(new.Engine))
	if old.Engine.HashKey != new.Engine.HashKey { // a secret: its values are not shown
		d.add(false, "engine: hash_key changed, so mh services choose other backends for new connections")
	}
	d.ports(old.Ports, new.Ports)
	d.fields("api: ", true, apiFields(old.API), apiFields(new.API))
	d.access("access: ", &old.Access, &new.Access)
	d.services(old.Services, new.Services)
	return d.changes
}

// diff collects changes.
type diff struct{ changes []Change }

func (d *diff) add(restart bool, format string, args ...any) {
	d.changes = append(d.changes, Change{fmt.Sprintf(format, args...), restart})
}

// field is the name and the text of a value that can change.
type field struct{ name, text string }

// fields compares two lists of the same fields.
func (d *diff) fields(prefix string, restart bool, old, new []field) {
	for i := range old {
		if old[i].text != new[i].text {
			d.add(restart, "%s%s %s -> %s", prefix, new[i].name, old[i].text, new[i].text)
		}
	}
}

func engineFields(e Engine) []field {
	return []field{
		{"cores", orWord(e.Cores, "default")},
		{"connections", fmt.Sprint(e.Connections)},
		{"batch", fmt.Sprint(e.Batch)},
		{"poll", string(e.Poll)},
		{"stuck_after", shortDuration(e.StuckAfter)},
		{"on_stop", string(e.OnStop)},
		{"bpf_dir", fmt.Sprintf("%q", e.BPFDir)},
		{"adopt_per_second", fmt.Sprint(e.AdoptPerSecond)},
		{"state_dir", fmt.Sprintf("%q", e.StateDir)},
	}
}

func apiFields(a API) []field {
	return []field{
		{"socket", a.Socket},
		{"http", fmt.Sprintf("%q", a.HTTP)},
		{"host", fmt.Sprintf("%q", a.Host)},
		{"metrics", string(a.Metrics)},
		{"reads", string(a.Reads)},
		{"token_file", fmt.Sprintf("%q", a.TokenFile)},
	}
}

func portFields(p Port) []field {
	return []field{{"queues", orWord(p.Queues, "every")}, {"io", string(p.IO)}}
}

func serviceFields(s Service) []field {
	all := []field{
		{"name", s.Name},
		{"mode", s.Mode.String()},
		{"scheduler", s.Scheduler},
		{"hash", s.Hash},
		{"adopt", cmp.Or(s.Adopt, "default")},
		{"persistence", shortDuration(s.Persistence)},
		{"source", orWord(s.Source, "none")},
		{"on_down", s.OnDown},
		{"on_remove", s.OnRemove},
		{"icmp_echo", s.ICMPEcho},
		{"on_idle", s.OnIdle},
		{"slow_start", shortDuration(s.SlowStart)},
		{"limit unproven", fmt.Sprint(s.Limits.Unproven)},
		{"sorry", sorryText(s.Sorry)},
	}
	for _, k := range timeoutKeys {
		all = append(all, field{"timeout " + k.key, shortDuration(*k.field(&s.Timeouts))})
	}
	l := s.Limits
	all = append(all,
		field{"limit connections", limitText(l.Connections)},
		field{"limit new_per_second", limitText(l.NewPerSecond)},
		field{"limit source_connections", limitText(l.SourceConnections)},
		field{"limit source_new_per_second", limitText(l.SourceNewPerSecond)},
		field{"limit source_prefix4", fmt.Sprint(l.SourcePrefix4)},
		field{"limit source_prefix6", fmt.Sprint(l.SourcePrefix6)},
	)
	h := s.Health
	return append(all,
		field{"health type", h.Type},
		field{"health interval", shortDuration(h.Interval)},
		field{"health timeout", shortDuration(h.Timeout)},
		field{"health rise", fmt.Sprint(h.Rise)},
		field{"health fall", fmt.Sprint(h.Fall)},
		field{"health port", fmt.Sprint(h.Port)},
		field{"health via", h.Via},
		field{"health path", h.Path},
		field{"health host", fmt.Sprintf("%q", h.Host)},
		field{"health expect_status", orWord(h.ExpectStatus, "200 to 399")},
		field{"health expect_body", fmt.Sprintf("%q", h.ExpectBody)},
		field{"health send", fmt.Sprintf("%q", h.Send)},
		field{"health expect", fmt.Sprintf("%q", h.Expect)},
		field{"health query", h.Query},
		field{"health min_healthy", fmt.Sprint(h.MinHealthy)},
		field{"health flap_hold", shortDuration(h.FlapHold)},
	)
}

func limitText(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func sorryText(b *Backend) string {
	if b == nil {
		return "none"
	}
	return fmt.Sprintf("%s (%s)", b.Key, b.Mode)
}

func backendFields(b Backend) []field {
	return []field{{"weight", fmt.Sprint(b.Weight)}, {"mode", b.Mode.String()},
		{"max_connections", limitText(b.MaxConnections)}, {"min_connections", limitText(b.MinConnections)}}
}

// orWord formats a list, or returns word if it is nil. Lists are sets: their order does not matter.
func orWord[T int | netip.Addr](list []T, word string) string {
	if list == nil {
		return word
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = fmt.Sprint(v)
	}
	slices.Sort(texts)
	return "[" + strings.Join(texts, " ") + "]"
}

func (d *diff) ports(old, new []Port) {
	before := byKey(old, func(p *Port) string { return p.Name })
	for i := range new {
		p := &new[i]
		was := before[p.Name]
		if was == nil {
			d.add(true, "added port %s", p.Name)
			continue
		}
		delete(before, p.Name)
		d.fields("port "+p.Name+": ", true, portFields(*was), portFields(*p))
	}
	for _, p := range old {
		if before[p.Name] != nil {
			d.add(true, "removed port %s", p.Name)
		}
	}
}

func (d *diff) services(old, new []Service) {
	before := byKey(old, func(s *Service) service.Key { return s.Key })
	for i := range new {
		s := &new[i]
		was := before[s.Key]
		if was == nil {
			d.add(false, "added service %s", summary(s))
			continue
		}
		delete(before, s.Key)
		prefix := "service " + s.Name + ": "
		d.fields(prefix, false, serviceFields(*was), serviceFields(*s))
		d.access(prefix+"access ", &was.Access, &s.Access)
		d.backends(prefix, was.Backends, s.Backends)
	}
	for i := range old {
		if before[old[i].Key] != nil {
			d.add(false, "removed service %s", summary(&old[i]))
		}
	}
}

// summary describes an added or removed service.
func summary(s *Service) string {
	plural := "s"
	if len(s.Backends) == 1 {
		plural = ""
	}
	return fmt.Sprintf("%s (%s, %s, %s, %d backend%s)", s.Name, s.Key, s.Mode, s.Scheduler, len(s.Backends), plural)
}

func (d *diff) backends(prefix string, old, new []Backend) {
	before := byKey(old, func(b *Backend) service.BackendKey { return b.Key })
	for i := range new {
		b := &new[i]
		was := before[b.Key]
		if was == nil {
			d.add(false, "%sadded backend %s (%s, weight %d)", prefix, b.Key, b.Mode, b.Weight)
			continue
		}
		delete(before, b.Key)
		d.fields(prefix+"backend "+b.Key.String()+" ", false, backendFields(*was), backendFields(*b))
	}
	for i := range old {
		if before[old[i].Key] != nil {
			d.add(false, "%sremoved backend %s", prefix, old[i].Key)
		}
	}
}

// byKey returns a list's elements by key. The values point into the list.
func byKey[T any, K comparable](list []T, key func(*T) K) map[K]*T {
	all := make(map[K]*T, len(list))
	for i := range list {
		all[key(&list[i])] = &list[i]
	}
	return all
}
