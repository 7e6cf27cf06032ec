package override_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	. "sluice/engine/override"
	"sluice/pipeline/service"
)

var now = time.Unix(1_000_000, 0).UTC()

func weight(w int) *int { return &w }

// backend returns the ID of the n-th backend of a service.
func backend(n byte) service.BackendID {
	key := service.Key{Address: netip.MustParseAddr("198.51.100.1"), Ports: service.Ports{First: 80, Last: 80}, Protocol: service.TCP}
	return key.BackendID(service.BackendKey{Address: netip.AddrFrom4([4]byte{10, 0, 0, n}), Port: 8080})
}

// config returns a configuration of one service. Its n-th backend has the n-th weight.
func config(weights ...int) *conf.Config {
	s := conf.Service{Name: "web", Key: backend(0).Service}
	for i, w := range weights {
		s.Backends = append(s.Backends, conf.Backend{Key: backend(byte(i)).Backend, Weight: w, Mode: service.NAT})
	}
	return &conf.Config{Services: []conf.Service{s}}
}

// TestRules checks every rule on each kind of override, for a backend of configured weight 3.
func TestRules(t *testing.T) {
	drain := Override{}.WithState(Drain, now, time.Minute)
	for name, c := range map[string]struct {
		o         Override
		weight    int
		kind      State
		evicts    bool // now
		later     bool // after the deadline
		yields    bool
		last      int
		enabled   int // weight after enable
		enabledIs State
	}{
		"none":                         {o: Override{}, weight: 3, enabled: 3},
		"drain":                        {o: Override{State: Drain}, kind: Drain, enabled: 3},
		"drain with deadline":          {o: drain, kind: Drain, later: true, enabled: 3},
		"disable":                      {o: Override{State: Disable}, kind: Disable, evicts: true, later: true, enabled: 3},
		"weight":                       {o: OfWeight(7, 3), weight: 7, kind: Weight, last: 7, enabled: 7, enabledIs: Weight},
		"weight 0":                     {o: OfWeight(0, 3), kind: Weight, enabled: 3},
		"the configured weight":        {o: OfWeight(3, 3), weight: 3, enabled: 3},
		"weight of another file":       {o: OfWeight(7, 4), weight: 3, kind: Weight, yields: true, enabled: 3, enabledIs: Weight},
		"drain over weight":            {o: OfWeight(7, 3).WithState(Drain, now, 0), kind: Drain, last: 7, enabled: 7, enabledIs: Weight},
		"drain in place of a deadline": {o: drain.WithState(Drain, now, 0), kind: Drain, enabled: 3},
	} {
		later := now.Add(time.Minute)
		got := []any{c.o.EffectiveWeight(3), c.o.Kind(), c.o.Evicts(now), c.o.Evicts(later), c.o.Yields(3), c.o.LastWeight(3),
			c.o.Enabled().EffectiveWeight(3), c.o.Enabled().Kind()}
		want := []any{c.weight, c.kind, c.evicts, c.later, c.yields, c.last, c.enabled, c.enabledIs}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if empty := c.kind == None; c.o.Empty() != empty || len(Set{}.With(backend(1), c.o)) == 0 != empty {
			t.Errorf("%s: empty is %v", name, c.o.Empty())
		}
	}
}

// TestDeadlines checks that a set returns each deadline once, in order.
func TestDeadlines(t *testing.T) {
	all := Set{backend(4): {State: Disable}, backend(5): {State: Drain}}
	for n := range byte(3) {
		all[backend(n)] = Override{}.WithState(Drain, now, time.Duration(3-n)*time.Minute)
	}
	var order []service.BackendID
	seen := now
	for next := all.NextDeadline(seen); !next.IsZero(); next = all.NextDeadline(seen) {
		order = append(order, all.Expired(seen, next)...)
		seen = next
	}
	if want := []service.BackendID{backend(2), backend(1), backend(0)}; !reflect.DeepEqual(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if n := len(all.Evicted(now)); n != 1 {
		t.Errorf("%d evicted at the start", n)
	}
	if n := len(all.Evicted(seen)); n != 4 {
		t.Errorf("%d evicted at the end", n)
	}
}

// TestSetIsAValue checks that With and Yield leave the set alone that they are called on.
func TestSetIsAValue(t *testing.T) {
	all := Set{backend(0): OfWeight(7, 1), backend(1): OfWeight(8, 2), backend(2): OfWeight(9, 3)}
	before := all.Clone()
	if next := all.With(backend(0), Override{}); len(next) != 2 {
		t.Errorf("without one: %v", next)
	}
	next, yielded := all.Yield(config(1, 5, 6))
	if len(next) != 1 || len(yielded) != 2 ||
		yielded[0] != "service web: backend 10.0.0.1:8080: the weight 8 set at run time yields to the file's" {
		t.Errorf("yielded %q, and %v remain", yielded, next)
	}
	if again, yielded := next.Yield(config(1, 5, 6)); len(yielded) != 0 || !reflect.DeepEqual(again, next) {
		t.Errorf("yielded again: %q", yielded)
	}
	if !reflect.DeepEqual(all, before) {
		t.Errorf("the set changed: %v", all)
	}
	if w := all.Weights(config(1, 5, 3)); !reflect.DeepEqual(w, map[service.BackendID]int{backend(0): 7, backend(2): 9}) {
		t.Errorf("weights %v", w)
	}
	if next := Set(nil).With(backend(0), OfWeight(7, 1)); len(next) != 1 {
		t.Errorf("the nil set: %v", next)
	}
}

// TestStoredForm checks that Parse is the inverse of Encode.
func TestStoredForm(t *testing.T) {
	all := Set{
		backend(0): {Weight: weight(7), FileWeight: 3, Since: now},
		backend(1): {State: Drain, Deadline: now.Add(time.Hour), Since: now},
		backend(2): {State: Disable, Weight: weight(0), Since: now},
	}
	data, err := all.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse(data)
	if err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("%v, %v from %s", back, err, data)
	}
	if again, _ := back.Encode(); string(again) != string(data) {
		t.Errorf("encoded again: %s", again)
	}
	none, _ := Set(nil).Encode()
	if back, err := Parse(none); err != nil || len(back) != 0 {
		t.Errorf("%v, %v from %s", back, err, none)
	}
}

// TestParseErrors checks that Parse names what is invalid and returns the rest.
func TestParseErrors(t *testing.T) {
	good, _ := Set{backend(0): {State: Drain, Since: now}}.Encode()
	for change, want := range map[string]string{
		`"state": "drain" -> "state": "dance"`:             `backend 10.0.0.0:8080 of tcp 198.51.100.1:80: state "dance" must be one of drain, disable`,
		`"state": "drain" -> "weight": 65536`:              "weight 65536 must be from 0 to 65535",
		`"state": "drain" -> "weight": -1`:                 "weight -1 must be from 0 to 65535",
		`"version": 1 -> "version": 2`:                     "it has version 2; this program knows 1",
		`"protocol": "tcp" -> "protocol": "icmp"`:          `protocol "icmp"`,
		`"ports": "80" -> "ports": "0"`:                    `port "0"`,
		`"backend": "10.0.0.0:8080" -> "backend": "there"`: "there",
		`"overrides": [ -> "overrides": [ {},`:             "backend  of  :",
	} {
		from, to, _ := strings.Cut(change, " -> ")
		text := strings.Replace(string(good), from, to, 1)
		all, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", change, err, want)
		}
		if rest := strings.Contains(to, "{}"); rest != (len(all) == 1) {
			t.Errorf("%s: %v", change, all)
		}
	}
}
