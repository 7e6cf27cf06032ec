package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/service"
)

// service reads one [[service]]. An invalid value leaves a zero value, and checks that need it do
// not run: one mistake, one message.
func (t table) service(global Timeouts) Service {
	s := Service{
		Name: t.text("name"),
		Key: service.Key{
			Address:  t.address("address"),
			Ports:    t.ports("port"),
			Protocol: allowedWord(service.ParseProtocol, t.word("protocol")),
		},
		Mode:        allowedWord(service.ParseMode, t.word("mode")),
		Scheduler:   t.word("scheduler"),
		Hash:        t.word("hash"),
		Adopt:       t.word("adopt"),
		Persistence: t.duration("persistence"),
		OnDown:      t.word("on_down"),
		OnRemove:    t.word("on_remove"),
		ICMPEcho:    t.word("icmp_echo"),
		OnIdle:      t.word("on_idle"),
		SlowStart:   t.duration("slow_start"),
		Timeouts:    t.table("timeouts").timeouts(global),
		Access:      t.table("access").access(),
		Limits:      t.table("limits").limits(),
		Line:        t.at.line,
	}
	if !t.has("name") && usable(s.Key) {
		s.Name = derivedName(s.Key)
		t.at.label = s.Name
	}
	s.Backends = t.backends(&s)
	s.Sorry = t.sorry(&s)
	s.Source = t.source(&s)
	s.Health = t.health(&s)
	t.checkAdopt(&s)
	if t.has("hash") && s.Scheduler != "mh" {
		t.fail(t.at.key("hash"), "is for scheduler mh only and this service has %s; remove it or change the scheduler", s.Scheduler)
	}
	t.warnWeightless(&s)
	return s
}

// checkAdopt checks adopt = "hash". Only a choice that follows from the packet alone finds the
// backend that has the connection, and only in tun and dr the backend knows the packet.
func (t table) checkAdopt(s *Service) {
	switch {
	case s.Adopt != AdoptHash || s.hashes():
	case s.Scheduler != "mh":
		t.fail(t.at.key("adopt"), "hash needs scheduler mh and this service has %s; remove it or change the scheduler", s.Scheduler)
	default:
		t.fail(t.at.key("adopt"), "hash needs mode tun or dr for all backends, which get the packets as the client sent them; remove it or change the mode")
	}
}

// hashes reports whether the client's packet alone tells which backend has the connection.
func (s *Service) hashes() bool {
	rewritten := func(b Backend) bool { return b.Mode != service.TUN && b.Mode != service.DR }
	return s.Scheduler == "mh" && !slices.ContainsFunc(s.Servers(), rewritten)
}

// Adopts reports whether segments of unknown connections go to the backend that the hash names.
func (s *Service) Adopts() bool { return s.Adopt != AdoptNever && s.hashes() }

func (t table) limits() Limits {
	return Limits{
		Connections: t.integer("connections"), NewPerSecond: t.integer("new_per_second"),
		SourceConnections: t.integer("source_connections"), SourceNewPerSecond: t.integer("source_new_per_second"),
		Unproven: t.fraction("unproven"), SourcePrefix4: t.integer("source_prefix4"), SourcePrefix6: t.integer("source_prefix6"),
	}
}

// weightless are the schedulers that ignore weights, except 0. nq is not among them: where no
// backend is idle, it goes by weight.
var weightless = []string{"rr", "lc", "dh"}

// IgnoresWeights reports whether the service's scheduler treats all weights above 0 alike.
func (s *Service) IgnoresWeights() bool { return slices.Contains(weightless, s.Scheduler) }

// warnWeightless warns of settings that such a scheduler ignores. Equal weights above 0 need no
// warning.
func (t table) warnWeightless(s *Service) {
	if !s.IgnoresWeights() {
		return
	}
	if s.SlowStart > 0 {
		t.warn(t.at.key("slow_start"), "has no effect with scheduler %s, which ignores weights", s.Scheduler)
	}
	first := 0
	for i, b := range s.Backends {
		switch {
		case first == 0:
			first = b.Weight
		case b.Weight != 0 && b.Weight != first:
			t.warn(t.at.key("backend").item(i).key("weight"), "%d beside %d has no effect: scheduler %s treats all weights above 0 alike; "+
				"to distribute by weight use another one, such as wrr or wlc", b.Weight, first, s.Scheduler)
			return
		}
	}
}

// allowedWord parses a word that its setting has checked already. "" gives the zero value.
func allowedWord[T any](parse func(string) (T, error), word string) T {
	v, _ := parse(word)
	return v
}

// usable reports whether address and port of a service are both valid.
func usable(k service.Key) bool { return k.Address.IsValid() && k.Ports != (service.Ports{}) }

// derivedName returns the name of a service that has none in the file.
func derivedName(k service.Key) string {
	return k.Protocol.String() + "-" + k.Address.String() + "-" + k.Ports.String()
}

// source reads the addresses that fullnat sends from, and checks them against the modes in use.
func (t table) source(s *Service) []netip.Addr {
	all := list(t, "source", func(setting *Setting, raw any) (netip.Addr, string) {
		a, wrong := readAddress(setting, raw)
		if wrong == "" && s.Key.Address.IsValid() && a.Is4() != s.Key.Address.Is4() {
			wrong = fmt.Sprintf("%s is %s and the service is %s, but fullnat does not change the family", a, family(a), family(s.Key.Address))
		}
		return a, wrong
	})
	used := s.Mode == service.FullNAT ||
		slices.ContainsFunc(s.Servers(), func(b Backend) bool { return b.Mode == service.FullNAT })
	at := t.at.key("source")
	switch {
	case used && !t.has("source"):
		t.fail(at, "is missing: fullnat sends from addresses of this machine; allowed: %s", t.setting("source").Allowed())
	case !used && t.has("source"):
		t.fail(at, "is for mode fullnat only and this service has mode %s; remove it or change the mode", s.Mode)
	}
	return all
}

// health reads [service.health]. A check needs a port, which backends of a range or of any port
// lack.
func (t table) health(s *Service) Health {
	h := t.table("health")
	health := Health{
		Type:         h.word("type"),
		Interval:     h.duration("interval"),
		Timeout:      h.duration("timeout"),
		Rise:         h.integer("rise"),
		Fall:         h.integer("fall"),
		Port:         h.integer("port"),
		Via:          h.word("via"),
		Path:         h.text("path"),
		Host:         h.text("host"),
		ExpectStatus: h.integers("expect_status"),
		ExpectBody:   h.text("expect_body"),
		Send:         h.text("send"),
		Expect:       h.text("expect"),
		Query:        h.text("query"),
		MinHealthy:   h.integer("min_healthy"),
		FlapHold:     h.duration("flap_hold"),
	}
	if !t.has("health") {
		health.Type = HealthNone
	}
	if health.Type == HealthNone {
		return health
	}
	h.warnUseless(health.Type)
	routed := func(b Backend) bool { return b.Mode == service.TUN || b.Mode == service.DR }
	if h.has("via") && (health.Type == HealthPing || !slices.ContainsFunc(s.Backends, routed)) {
		h.warn(h.at.key("via"), "has no effect: only checks of tun and dr backends, other than ping, can use the path of their mode")
	}
	if health.Timeout > health.Interval && (h.has("timeout") || h.has("interval")) {
		h.warn(h.at.key("timeout"), "%s is longer than the interval, %s: a server that hangs is down only after fall x timeout",
			shortDuration(health.Timeout), shortDuration(health.Interval))
	}
	if health.Type == HealthPing || h.has("port") {
		return health
	}
	portless := func(b Backend) bool { return b.Key.Address.IsValid() && b.Key.Port == 0 }
	if i := slices.IndexFunc(s.Backends, portless); i >= 0 && usable(s.Key) {
		h.fail(h.at.key("port"), "is missing: the service is on port %s, so backend %s has no single port to check; allowed: %s",
			s.Key.Ports, s.Backends[i].Key.Address, h.setting("port").Allowed())
	}
	return health
}

// warnUseless warns of keys that a check of this type ignores.
func (t table) warnUseless(checkType string) {
	for key := range t.values {
		s := settingsOf[t.section][key]
		if s != nil && s.Types != nil && !slices.Contains(s.Types, checkType) {
			t.warn(t.at.key(key), "has no effect with type %s, only with %s", checkType, strings.Join(s.Types, ", "))
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
