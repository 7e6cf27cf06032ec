package tables

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// whole returns the result without what Compile needs to update it, so that the next compile is a
// whole one.
func whole(r Result) Result {
	r.input = nil
	return r
}

// decide changes checks and overrides of some backends of the input and returns it with the
// policy's next step. Time goes on, so that deadlines of drains come.
func (g *inputs) decide(in *Input, checks map[service.BackendID]health.State, overrides override.Set, now time.Time) (*Input, override.Set) {
	index := in.Health.Config()
	var changed []service.Key
	for id := range index.EachBackend() {
		switch g.r.IntN(12) {
		case 0:
			checks[id] = health.State{Up: g.r.IntN(2) == 0, Since: now}
		case 1:
			overrides = overrides.With(id, override.OfWeight(g.r.IntN(5), g.r.IntN(2)))
		case 2:
			overrides = overrides.With(id, override.Override{}.WithState(override.Drain, now, time.Duration(g.r.IntN(3))*time.Second))
		case 3:
			overrides = overrides.With(id, override.Override{State: override.Disable})
		case 4:
			overrides = overrides.With(id, override.Override{})
		default:
			continue
		}
		changed = append(changed, id.Service)
	}
	next := *in
	next.Health, _ = in.Health.StepServices(policy.Input{Config: index, Checks: checks, Overrides: overrides, Now: now}, changed)
	return &next, overrides
}

// TestUpdate: a compile that reuses the result before returns what a whole compile does, and does
// not change the result before.
func TestUpdate(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		g := newInputs(t, seed)
		last := None()
		for range 4 {
			in, overrides := g.next(), make(override.Set)
			checks := make(map[service.BackendID]health.State)
			now := time.Unix(1, 0)
			last = compiled(t, in, last)
			for step := range 12 {
				now = now.Add(time.Second)
				in, overrides = g.decide(in, checks, overrides, now)
				before := whole(last)
				if !in.sameSurroundings(last.input) {
					t.Fatal("the surroundings differ")
				}
				updated, again := compiled(t, in, last), compiled(t, in, before)
				if !reflect.DeepEqual(updated.Tables, again.Tables) || !reflect.DeepEqual(updated.Rules, again.Rules) || !reflect.DeepEqual(updated.State, again.State) {
					t.Fatalf("seed %d step %d: the update differs from a whole compile", seed, step)
				}
				if second := compiled(t, in, last); !reflect.DeepEqual(second, updated) {
					t.Fatalf("seed %d step %d: the second update differs from the first", seed, step)
				}
				last = updated
			}
		}
	}
}

// TestUpdateOfOneService: the decision about one backend concerns its service alone, whatever the
// number of the others.
func TestUpdateOfOneService(t *testing.T) {
	text := "[[port]]\nname = \"eth0\"\n"
	for i := range 100 {
		text += fmt.Sprintf("[[service]]\nname = \"s%d\"\naddress = \"198.51.100.%d\"\nport = 80\nscheduler = \"mh\"\n"+
			"[[service.backend]]\naddress = \"10.0.0.1\"\n[[service.backend]]\naddress = \"10.0.0.2\"\n", i, i+1)
	}
	cfg, _, err := conf.Parse("test.toml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	in := newInputs(t, 1).next()
	index := policy.NewIndex(cfg)
	var none *policy.State
	in.Health, _ = none.Step(policy.Input{Config: index, Now: time.Unix(1, 0)})
	first := compiled(t, in, None())
	id := cfg.Services[7].Key.BackendID(cfg.Services[7].Backends[0].Key)
	next := *in
	next.Health, _ = in.Health.StepServices(policy.Input{
		Config: index, Overrides: override.Set{id: override.Override{State: override.Drain}}, Now: time.Unix(2, 0),
	}, []service.Key{id.Service})
	second := compiled(t, &next, first)
	for number := 1; number < len(second.Tables.Services); number++ {
		same := second.Tables.Services[number].Scheduler == first.Tables.Services[number].Scheduler
		if drained := number == 8; same == drained {
			t.Errorf("service %d has the same scheduler: %t", number, same)
		}
	}
	if reflect.ValueOf(first.Rules.Services).Pointer() != reflect.ValueOf(second.Rules.Services).Pointer() {
		t.Error("the rules were made again")
	}
}
