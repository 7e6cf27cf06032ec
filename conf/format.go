package conf

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sluice/pipeline/service"
)

// Format returns a configuration as a file that Parse reads as an equal one. It leaves out keys
// with their default, except those that readers expect in every service. note returns a comment to
// put above a service, or ""; it may be nil.
func Format(cfg *Config, note func(*Service) string) []byte {
	p := &printer{}
	p.engine(&cfg.Engine)
	for _, port := range cfg.Ports {
		p.open("port")
		p.value("name", port.Name)
		p.key("queues", port.Queues)
		p.key("io", string(port.IO))
	}
	shared := sharedTimeouts(cfg.Services)
	p.timeouts("timeouts", shared, DefaultTimeouts())
	p.open("api")
	p.key("socket", cfg.API.Socket)
	p.key("http", cfg.API.HTTP)
	p.key("host", cfg.API.Host)
	p.key("metrics", string(cfg.API.Metrics))
	p.key("reads", string(cfg.API.Reads))
	p.key("token_file", cfg.API.TokenFile)
	p.access("access", &cfg.Access)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if note != nil {
			p.comment = note(s)
		}
		p.service(s, shared)
	}
	return bytes.TrimPrefix(p.text.Bytes(), []byte("\n"))
}

// DefaultTimeouts returns the timeouts of a file that sets none.
func DefaultTimeouts() (t Timeouts) {
	for _, k := range timeoutKeys {
		*k.field(&t) = k.value
	}
	return t
}

// sharedTimeouts returns the values for [timeouts]: those that all services share, and the default
// where they differ.
func sharedTimeouts(services []Service) Timeouts {
	shared := DefaultTimeouts()
	for _, k := range timeoutKeys {
		for i := range services {
			if *k.field(&services[i].Timeouts) != *k.field(&services[0].Timeouts) {
				break
			}
			if i == len(services)-1 {
				*k.field(&shared) = *k.field(&services[0].Timeouts)
			}
		}
	}
	return shared
}

// printer writes tables. A header is written with the first key below it, so that an empty table
// leaves no trace.
type printer struct {
	text    bytes.Buffer
	section string
	comment string // comment above the next header
	opened  bool   // the section's header is written
}

func (p *printer) open(section string) { p.section, p.opened = section, false }

// key writes a key unless its value is the default.
func (p *printer) key(name string, value any) {
	s := settingsOf[p.section][name]
	text := valueText(value)
	if s == nil || text == "" || s.Default != nil && text == valueText(s.Default) {
		return
	}
	p.value(name, value)
}

// value writes a key in any case.
func (p *printer) value(name string, value any) {
	indent := ""
	if strings.Contains(p.section, ".") {
		indent = "  "
	}
	if !p.opened {
		p.opened = true
		p.text.WriteString("\n")
		for line := range strings.Lines(p.comment) {
			fmt.Fprintf(&p.text, "# %s\n", Printable(strings.TrimRight(line, "\r\n")))
		}
		p.comment = ""
		fmt.Fprintf(&p.text, "%s%s\n", indent, header(p.section))
	}
	fmt.Fprintf(&p.text, "%s%s = %s\n", indent, name, valueText(value))
}

func (p *printer) engine(e *Engine) {
	p.open("engine")
	p.key("cores", e.Cores)
	p.key("connections", e.Connections)
	p.key("batch", e.Batch)
	p.key("poll", string(e.Poll))
	p.key("stuck_after", e.StuckAfter)
	p.key("state_dir", e.StateDir)
	p.key("on_stop", string(e.OnStop))
	p.key("bpf_dir", e.BPFDir)
	p.key("adopt_per_second", e.AdoptPerSecond)
	p.key("hash_key", e.HashKey)
}

func (p *printer) timeouts(section string, t, base Timeouts) {
	p.open(section)
	for _, k := range timeoutKeys {
		if d := *k.field(&t); d != *k.field(&base) {
			p.value(k.key, d)
		}
	}
}

func (p *printer) service(s *Service, shared Timeouts) {
	p.open("service")
	if s.Name != "" && s.Name != derivedName(s.Key) {
		p.value("name", s.Name)
	}
	p.value("address", s.Key.Address)
	p.value("port", s.Key.Ports)
	p.value("protocol", s.Key.Protocol)
	p.value("mode", s.Mode)
	p.value("scheduler", s.Scheduler)
	p.key("hash", s.Hash)
	if s.Adopt != "" {
		p.value("adopt", s.Adopt)
	}
	p.key("persistence", s.Persistence)
	p.key("source", s.Source)
	p.key("on_down", s.OnDown)
	p.key("on_remove", s.OnRemove)
	p.key("icmp_echo", s.ICMPEcho)
	p.key("on_idle", s.OnIdle)
	p.key("slow_start", s.SlowStart)
	p.timeouts("service.timeouts", s.Timeouts, shared)
	p.access("service.access", &s.Access)
	p.limits(&s.Limits)
	if h := &s.Health; h.Type != HealthNone {
		p.health(h)
	}
	if s.Sorry != nil {
		p.backend("service.sorry", s, s.Sorry)
	}
	for i := range s.Backends {
		p.backend("service.backend", s, &s.Backends[i])
	}
}

func (p *printer) access(section string, a *Access) {
	p.open(section)
	p.key("allow", a.Allow)
	p.key("deny", a.Deny)
	if a.AllowFile != nil {
		p.value("allow_file", a.AllowFile.Path)
	}
	if a.DenyFile != nil {
		p.value("deny_file", a.DenyFile.Path)
	}
}

func (p *printer) limits(l *Limits) {
	p.open("service.limits")
	p.key("unproven", l.Unproven)
	p.limit("connections", l.Connections)
	p.limit("new_per_second", l.NewPerSecond)
	p.limit("source_connections", l.SourceConnections)
	p.limit("source_new_per_second", l.SourceNewPerSecond)
	p.key("source_prefix4", l.SourcePrefix4)
	p.key("source_prefix6", l.SourcePrefix6)
}

// limit writes a limit if there is one.
func (p *printer) limit(name string, n int) {
	if n != 0 {
		p.value(name, n)
	}
}

func (p *printer) health(h *Health) {
	p.open("service.health")
	p.value("type", h.Type)
	p.key("interval", h.Interval)
	p.key("timeout", h.Timeout)
	p.key("rise", h.Rise)
	p.key("fall", h.Fall)
	if h.Port != 0 {
		p.value("port", h.Port)
	}
	p.key("via", h.Via)
	p.key("path", h.Path)
	p.key("host", h.Host)
	p.key("expect_status", h.ExpectStatus)
	p.key("expect_body", h.ExpectBody)
	p.key("send", h.Send)
	p.key("expect", h.Expect)
	p.key("query", h.Query)
	p.key("min_healthy", h.MinHealthy)
	p.key("flap_hold", h.FlapHold)
}

// backend writes a backend, or the sorry server.
func (p *printer) backend(section string, s *Service, b *Backend) {
	p.open(section)
	p.value("address", b.Key.Address)
	if same := s.Key.Ports.Single() && b.Key.Port == s.Key.Ports.First; !same && b.Key.Port != 0 {
		p.value("port", int(b.Key.Port))
	}
	p.key("weight", b.Weight)
	if b.Mode != s.Mode {
		p.value("mode", b.Mode)
	}
	p.limit("max_connections", b.MaxConnections)
	p.limit("min_connections", b.MinConnections)
}

// valueText returns a value as TOML, or "" for an empty list.
func valueText(value any) string {
	switch v := value.(type) {
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Duration:
		return Quote(shortDuration(v))
	case service.Ports:
		if v.Single() {
			return strconv.Itoa(int(v.First))
		}
		return Quote(v.String())
	case []int:
		return listText(v, strconv.Itoa)
	case []netip.Addr:
		return listText(v, func(a netip.Addr) string { return Quote(a.String()) })
	case []netip.Prefix:
		if v != nil && len(v) == 0 {
			return "[]" // which allows no client
		}
		return listText(v, func(p netip.Prefix) string { return Quote(p.String()) })
	case fmt.Stringer:
		return Quote(v.String())
	case string:
		return Quote(v)
	}
	panic(fmt.Sprintf("conf: %T has no form in TOML", value))
}

func listText[T any](all []T, text func(T) string) string {
	if len(all) == 0 {
		return ""
	}
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = text(v)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// Quote returns a text as a TOML basic string. Invalid UTF-8 becomes U+FFFD.
func Quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Printable makes a text fit for a TOML comment, which may not have control characters except tabs.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '\ufffd'
		}
		return r
	}, text)
}
