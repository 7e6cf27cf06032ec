package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/inspect"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// refusing is a platform that refuses a number of calls of Steer.
type refusing struct {
	invented
	refuse int
	rules  steer.Rules // of the last call, refused or not: a platform may follow half way
}

func (p *refusing) Steer(r steer.Rules) error {
	p.rules = r
	if p.refuse > 0 {
		p.refuse--
		return errors.New("refused")
	}
	return nil
}

func (p *refusing) SetNeighbours([]netip.Addr) {}

// withoutWorkers returns an engine that has published cfg, in surroundings where all is reachable.
func withoutWorkers(t *testing.T, cfg, all *conf.Config) (*Engine, *refusing) {
	t.Helper()
	p := &refusing{}
	probe := func(ctx context.Context, _ health.Check) error { // no result during the test
		<-ctx.Done()
		return ctx.Err()
	}
	e := newEngine(Options{Logger: slog.New(slog.DiscardHandler), Platform: p, Probe: probe})
	t.Cleanup(e.prober.Close)
	e.cfg, e.surroundings, e.cores = cfg, inspect.Surroundings(all, 1500, nil), 2
	e.loads = counter.NewLoads(1, pipeline.MaxBackends)
	e.hardware = &platform.Hardware{Ports: []platform.HardwarePort{{
		Name: "eth0", Queues: make([]platform.HardwareQueue, 2),
	}}}
	if err := e.adopt(cfg); err != nil {
		t.Fatal(err)
	}
	return e, p
}

const (
	beforeText = `
[[port]]
name = "eth0"
[[service]]
name = "a"
address = "198.51.100.10"
port = 80
protocol = "tcp"
mode = "dr"
scheduler = "mh"
adopt = "never" # what is kept after a change has a time, which two engines differ in
[[service.backend]]
address = "10.0.0.11"
[[service.backend]]
address = "10.0.0.12"
[service.health]
type = "ping"
[[service]]
name = "b"
address = "198.51.100.11"
port = 80
protocol = "tcp"
mode = "fullnat"
scheduler = "rr"
source = ["10.0.0.1"]
[[service.backend]]
address = "10.0.0.13"
`
	// A service in other modes, so that ownership changes, and a further one.
	afterText = `
[[port]]
name = "eth0"
[[service]]
name = "a"
address = "198.51.100.10"
port = 80
protocol = "tcp"
mode = "nat"
scheduler = "mh"
[[service.backend]]
address = "10.0.0.11"
weight = 3
[[service.backend]]
address = "10.0.0.14"
[service.health]
type = "tcp"
[[service]]
name = "b"
address = "198.51.100.11"
port = 80
protocol = "tcp"
mode = "fullnat"
scheduler = "rr"
source = ["10.0.0.1", "10.0.0.2"]
[[service.backend]]
address = "10.0.0.13"
[[service.backend]]
address = "10.0.0.15"
[[service]]
name = "c"
address = "198.51.100.12"
port = 80
protocol = "udp"
mode = "tun"
scheduler = "wlc"
[[service.backend]]
address = "10.0.0.11"
`
)

func parsed(t *testing.T, text string) *conf.Config {
	t.Helper()
	cfg, _, err := conf.Parse("test.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestFailedAdoptLeavesNothing: a configuration that cannot be adopted, whatever step it fails at,
// leaves the engine as it was: as it shows itself, and in what the next configuration becomes.
func TestFailedAdoptLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []struct {
		name string
		bad  func(cfg *conf.Config, p *refusing)
		err  string
	}{
		{"the platform refuses the rules", func(_ *conf.Config, p *refusing) { p.refuse = 1 }, "refused"},
		{"a check is invalid", func(cfg *conf.Config, _ *refusing) { cfg.Services[0].Health.Interval = 0 }, "health of"},
		{"a scheduler is unknown", func(cfg *conf.Config, _ *refusing) { cfg.Services[2].Scheduler = "none" }, "none"},
		{"numbers of backends run out", func(cfg *conf.Config, _ *refusing) {
			s := &cfg.Services[1]
			for i := range pipeline.MaxBackends {
				address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				s.Backends = append(s.Backends, conf.Backend{Key: service.BackendKey{Address: address, Port: 80}, Mode: service.NAT, Weight: 1})
			}
		}, "try again when connections of removed backends have ended"},
		{"numbers of sources run out", func(cfg *conf.Config, _ *refusing) {
			s := &cfg.Services[1]
			for i := range snat.MaxSources {
				s.Source = append(s.Source, netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}))
			}
		}, "use fewer in source"},
	} {
		t.Run(step.name, func(t *testing.T) {
			if testing.Short() && strings.HasPrefix(step.name, "numbers of backends") {
				t.Skip("takes half a million backends")
			}
			before, after := parsed(t, beforeText), parsed(t, afterText)
			e, p := withoutWorkers(t, before, after)
			fresh, _ := withoutWorkers(t, before, after)
			was, tables := shown(e), e.tables.Load()

			bad := *after
			bad.Services = slices.Clone(after.Services)
			step.bad(&bad, p)
			if err := e.adopt(&bad); err == nil || !strings.Contains(err.Error(), step.err) {
				t.Fatalf("error %v, want one about %q", err, step.err)
			}
			if now := shown(e); now != was {
				t.Errorf("the engine shows\n%s\nwas\n%s", now, was)
			}
			if e.tables.Load() != tables {
				t.Error("the workers have other tables")
			}
			if !reflect.DeepEqual(p.rules, fresh.compiled.Rules) {
				t.Errorf("rules %+v\nwant  %+v", p.rules, fresh.compiled.Rules)
			}
			sameState(t, "after the failure", e, fresh)
			if err := e.republish(); err != nil {
				t.Fatal(err)
			}
			sameState(t, "after tables for the same configuration", e, fresh)
			if err := errors.Join(e.adopt(after), fresh.adopt(after)); err != nil {
				t.Fatal(err)
			}
			sameState(t, "after the next configuration", e, fresh)
		})
	}
}

// TestFailedCommitOfChecks: if the prober has ended, rules and tables are those of before.
func TestFailedCommitOfChecks(t *testing.T) {
	before, after := parsed(t, beforeText), parsed(t, afterText)
	e, p := withoutWorkers(t, before, after)
	was, tables, rules := shown(e), e.tables.Load(), e.compiled.Rules
	e.prober.Close()
	if err := e.adopt(after); err == nil {
		t.Fatal("a prober that has ended accepts checks")
	}
	if e.tables.Load() != tables || !reflect.DeepEqual(p.rules, rules) || shown(e) != was {
		t.Error("the engine has changed")
	}
}

// TestFailedOverrideLeavesNothing: a weight that cannot be published does not apply.
func TestFailedOverrideLeavesNothing(t *testing.T) {
	before, after := parsed(t, beforeText), parsed(t, afterText)
	e, _ := withoutWorkers(t, before, after)
	fresh, _ := withoutWorkers(t, before, after)
	was := shown(e)
	e.surroundings.Locals = []netip.Addr{netip.MustParseAddr("10.0.0.1")} // so that rules differ
	e.platform.(*refusing).refuse = 1
	id := before.Services[0].Key.BackendID(before.Services[0].Backends[0].Key)
	o := e.overrides[id]
	weight := 7
	o.Weight, o.FileWeight = &weight, 1
	if err := e.override(e.overrides.With(id, o)); err == nil {
		t.Fatal("no error")
	}
	e.surroundings.Locals = nil
	if now := shown(e); now != was {
		t.Errorf("the engine shows\n%s\nwas\n%s", now, was)
	}
	sameState(t, "after the failure", e, fresh)
}

// sameState reports differences between two engines in what their next tables follow from.
func sameState(t *testing.T, when string, e, fresh *Engine) {
	t.Helper()
	if !reflect.DeepEqual(e.compiled.State, fresh.compiled.State) {
		t.Errorf("%s: the state is\n%+v\nthat of an engine without a failure\n%+v", when, e.compiled.State, fresh.compiled.State)
	}
	if !reflect.DeepEqual(e.tables.Load(), fresh.tables.Load()) {
		t.Errorf("%s: tables differ from those of an engine without a failure", when)
	}
	if !reflect.DeepEqual(e.compiled.Rules, fresh.compiled.Rules) {
		t.Errorf("%s: rules %+v\nwant %+v", when, e.compiled.Rules, fresh.compiled.Rules)
	}
}

// shown returns what operators see of an engine, without times.
func shown(e *Engine) string {
	var b strings.Builder
	for i := range e.cfg.Services {
		s := e.describe(&e.cfg.Services[i], e.prober.States(), nil, nil)
		for i := range s.Backends {
			s.Backends[i].StateSinceS = 0
		}
		fmt.Fprintf(&b, "%+v\n", s)
	}
	fmt.Fprintf(&b, "%+v\nchecks of", e.overrides)
	var checked []string
	for id := range e.prober.States() {
		checked = append(checked, id.Service.String()+" "+id.Backend.String())
	}
	slices.Sort(checked)
	fmt.Fprintf(&b, " %v\n", checked)
	return b.String()
}
