package plan_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/plan"
	"sluice/pipeline/service"
)

// config returns a configuration of one service with n backends of weight 1.
func config(scheduler string, n int) *conf.Config {
	s := conf.Service{Name: "web", Scheduler: scheduler, Mode: service.NAT,
		Key: service.Key{Address: netip.MustParseAddr("198.51.100.10"), Ports: service.Ports{First: 80, Last: 80}, Protocol: service.TCP}}
	for i := range n {
		s.Backends = append(s.Backends, conf.Backend{Weight: 1, Mode: service.NAT,
			Key: service.BackendKey{Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + i)}), Port: 8080}})
	}
	return &conf.Config{Services: []conf.Service{s}}
}

func TestCompute(t *testing.T) {
	running, next := config("mh", 3), config("mh", 2)
	removed := running.Services[0].Key.BackendID(running.Services[0].Backends[2].Key)
	p, err := plan.Compute(t.Context(), &plan.Input{
		Running: running, Next: next, Down: func(service.BackendID) bool { return false },
		Connections: map[service.BackendID]uint64{removed: 7},
	})
	if err != nil || p.Connections != 7 || p.Affected != 0 || len(p.Changes) != 1 || len(p.Refused) != 0 || len(p.Services) != 1 {
		t.Fatalf("%+v, %v", p, err)
	}
	s := p.Services[0]
	if s.Does != api.PlanChange || len(s.Backends) != 1 || s.Backends[0].Does != api.PlanRemove || s.Backends[0].Backend != "10.0.0.13:8080" {
		t.Errorf("%+v", s)
	}
	next.Services[0].OnRemove = conf.OnRemoveReset
	if p, err := plan.Compute(t.Context(), &plan.Input{
		Running: running, Next: next, Down: func(service.BackendID) bool { return false },
		Connections: map[service.BackendID]uint64{removed: 7},
	}); err != nil || p.Affected != 7 || p.Services[0].Affected != 7 || p.Services[0].Backends[0].Affected != 7 {
		t.Errorf("with on_remove = reset: %+v, %v", p, err)
	}
	if s.ClientsMoved == nil || *s.ClientsMoved < 0.30 || *s.ClientsMoved > 0.37 {
		t.Errorf("clients moved: %v, want about a third", s.ClientsMoved)
	}
	if same, err := plan.Compute(t.Context(), &plan.Input{Running: running, Next: config("mh", 3)}); err != nil || len(same.Services)+len(same.Changes) != 0 {
		t.Errorf("nothing changes, but %+v, %v", same, err)
	}
}

func TestGuard(t *testing.T) {
	text := "[[service]]\nname = \"web\"\n[[service.backend]]\naddress = \"10.0.0.11\"\n[[service.backend]]\naddress = \"10.0.0.12\"\n"
	withText := func(n int, text string) *conf.Config {
		c := config("rr", n)
		c.Text = text
		return c
	}
	for name, c := range map[string]struct {
		running, next *conf.Config
		lastRefused   bool
		want          string // in the error; "": none
	}{
		"the same":             {running: withText(4, text), next: withText(4, text)},
		"the last backend":     {running: withText(4, text), next: withText(3, text[:strings.LastIndex(text, "[[")])},
		"after a refused file": {withText(4, text), withText(3, text[:strings.LastIndex(text, "[[")]), true, "looks cut off"},
		"within a line":        {withText(4, text), withText(3, text[:len(text)-5]), false, "line 6 of 6"},
		"without its end mark": {withText(4, text+"# end\n"), withText(3, "# changed\n"+text), false, `"# end"`},
		"most backends":        {withText(4, "a"), withText(1, "b"), false, "removes 3 of 4 backends"},
		"half of the backends": {running: withText(4, "a"), next: withText(2, "b")},
		"all services":         {withText(1, "a"), &conf.Config{Text: "b"}, false, "removes 1 of 1 services"},
	} {
		err := plan.Guard(c.running, c.next, c.lastRefused)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err != nil && !errors.As(err, new(plan.Suspicious)) {
			t.Errorf("%s: %T", name, err)
		}
	}
}
