package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/engine/health"
	. "sluice/engine/health/policy"
	"sluice/pipeline/service"
)

// scene is a service's backends as a test changes them; backends that no event names are up and
// good.
type scene struct {
	states []health.State
	rule   Rule
	p      Protection
	now    time.Time
	alarm  string // of the last verdict
}

func newScene(n, minHealthy int) *scene {
	p := &scene{states: make([]health.State, n), now: time.Unix(1000, 0), rule: Rule{MinHealthy: minHealthy, AtOnce: 3 * time.Second}}
	for i := range p.states {
		p.states[i].Up = true
	}
	return p
}

// after lets time pass, and then puts backends into states: "2 failing", "2 down", "2 good" (still
// down), "2 up".
func (p *scene) after(seconds int, events string) string {
	p.now = p.now.Add(time.Duration(seconds) * time.Second)
	for event := range strings.SplitSeq(events, ", ") {
		var i int
		var what string
		if _, err := fmt.Sscan(event, &i, &what); err != nil {
			continue
		}
		s := &p.states[i-1]
		failing := what == "failing" || what == "down"
		if failing && !s.Failing {
			s.Failed = p.now
		}
		s.Failing = failing
		if up := what == "up" || what == "failing"; what != "good" && up != s.Up {
			s.Up, s.Since = up, p.now
		}
	}
	return p.decide()
}

// decide returns a letter for each backend: u up, o out, p protected.
func (p *scene) decide() (fates string) {
	var members []Member
	for i, s := range p.states {
		members = append(members, Member{ID: id(byte(i)), State: s})
	}
	var v Verdict
	p.p, v = p.p.Decide(members, p.rule)
	p.alarm = fmt.Sprintf("%d down, %d in use: %s: %s", len(v.Out)+len(v.Protected), len(v.Protected), v.Why, v.Advice)
	for i, s := range p.states {
		switch {
		case v.Out[id(byte(i))] && !s.Up:
			fates += "o"
		case v.Protected[id(byte(i))] && !s.Up:
			fates += "p"
		case s.Up:
			fates += "u"
		default:
			fates += "?"
		}
	}
	if (v.Why != "") != strings.Contains(fates, "p") {
		fates += " but why is " + v.Why
	}
	return fates
}

// TestProtection runs scenes: after so many seconds these events happen, and then the backends are
// in these states.
func TestProtection(t *testing.T) {
	type step struct {
		after  int
		events string
		want   string
	}
	for _, c := range []struct {
		name       string
		backends   int
		minHealthy int
		sorry      bool
		story      []step
	}{
		{"the only backend stays", 1, 50, false, []step{
			{0, "1 failing", "u"}, {2, "1 down", "p"}, {60, "1 down", "p"}, {2, "1 good", "p"}, {2, "1 up", "u"}}},
		{"unless none must", 1, 0, false, []step{{0, "1 failing", "u"}, {2, "1 down", "o"}, {2, "1 up", "u"}}},
		{"or a sorry server exists", 1, 50, true, []step{{2, "1 down", "o"}, {2, "1 up", "u"}}},
		{"one of two is taken out, the second stays", 2, 50, false, []step{
			{0, "1 failing", "uu"}, {2, "1 down", "ou"}, {60, "2 failing", "ou"}, {2, "2 down", "op"},
			{60, "1 up", "uo"}, {2, "2 up", "uu"}}},
		{"a neighbour that fails once does not bring a dead one back", 2, 50, false, []step{
			{0, "1 down", "ou"}, {1, "2 failing", "ou"}, {2, "2 up", "ou"}}},
		{"two of two at once stay", 2, 50, false, []step{
			{0, "1 failing", "uu"}, {1, "2 failing", "uu"}, {2, "1 down", "pu"}, {1, "2 down", "pp"},
			{9, "2 good", "pp"}, {2, "2 up", "ou"}, {2, "1 up", "uu"}}},
		{"one that went down just before all failed returns", 2, 50, false, []step{
			{0, "1 down", "ou"}, {1, "2 failing", "ou"}, {1, "2 down", "pp"}}},
		{"with a sorry server the last one is taken out, too", 2, 50, true, []step{
			{0, "1 failing", "uu"}, {1, "2 failing", "uu"}, {2, "1 down", "pu"}, {1, "2 down", "oo"}, {9, "2 up", "ou"}}},
		{"two of four may be taken out", 4, 50, false, []step{
			{0, "3 down", "uuou"}, {5, "1 down", "ouou"}, {5, "4 down", "ouop"}, {5, "2 down", "opop"},
			{60, "3 up", "opuo"}, {2, "1 up", "uouo"}}},
		{"two that died together long ago stay out when the others fail", 4, 50, false, []step{
			{0, "1 down", "ouuu"}, {1, "2 down", "oouu"}, {3600, "3 failing", "oouu"}, {1, "4 failing", "oouu"}, {2, "3 up, 4 up", "oouu"},
			{60, "3 failing, 4 failing", "oouu"}, {2, "3 down", "oopu"}, {1, "4 down", "oopp"}, {60, "", "oopp"}, {1, "4 up", "oopu"}, {2, "3 up", "oouu"}}},
		{"two that died together long ago stay out when the last one fails", 3, 10, false, []step{
			{0, "1 down, 2 down", "oou"}, {3600, "3 failing", "oou"}, {2, "3 down", "oop"}, {60, "", "oop"}, {1, "3 up", "oou"}}},
		{"two that went down just before the others failed return", 4, 50, false, []step{
			{0, "1 down, 2 down", "oouu"}, {1, "3 failing", "oouu"}, {1, "4 failing", "ppuu"}, {60, "3 down", "pppu"}, {0, "4 down", "pppp"}}},
		{"all of four at once", 4, 50, false, []step{
			{0, "1 failing, 2 failing, 3 failing, 4 failing", "uuuu"},
			{2, "1 down, 3 down", "pupu"}, {1, "2 down, 4 down", "pppp"}, {60, "", "pppp"},
			{0, "1 good, 2 good, 3 good, 4 good", "pppp"}, {2, "1 up", "uppp"}, {0, "2 up", "uupp"}, {0, "3 up", "uuup"}, {0, "4 failing", "uuuu"}}},
		{"one long dead, then all at once", 4, 50, false, []step{
			{0, "4 down", "uuuo"}, {60, "1 failing, 2 failing, 3 failing", "uuuo"}, {2, "1 down, 2 down, 3 down", "pppo"}}},
		{"one that is about to be up stays in use", 3, 50, false, []step{
			{0, "1 down", "ouu"}, {5, "2 down", "opu"}, {9, "1 good, 2 good", "opu"}, {1, "1 up", "upu"}, {1, "2 down", "uou"}}},
		{"all are needed", 3, 100, false, []step{{0, "1 down", "puu"}, {5, "2 down", "ppu"}}},
		{"none is needed", 3, 0, false, []step{{0, "1 down, 2 down, 3 down", "ooo"}}},
	} {
		p := newScene(c.backends, c.minHealthy)
		p.rule.Sorry = c.sorry
		for i, s := range c.story {
			if got := p.after(s.after, s.events); got != s.want {
				t.Errorf("%s: step %d, %q: %s, want %s", c.name, i+1, s.events, got, s.want)
			}
			if got := p.decide(); got != s.want {
				t.Errorf("%s: step %d, decided again: %s, want %s", c.name, i+1, got, s.want)
			}
		}
	}
}

// TestWhyProtected checks that an alarm names only those as failed "at once" that did, and how many
// are in use.
func TestWhyProtected(t *testing.T) {
	for _, c := range []struct{ story, why string }{
		{"1 down; 2 down", "2 down, 1 in use: min_healthy keeps 50 % of the backends in use: repair some"},
		{"1 failing, 2 failing; 1 down, 2 down", "2 down, 2 in use: " +
			"the checks of all backends failed at once: examine the checks, and the network to the backends"},
		{"1 down; 2 down; 3 down; 4 down", "4 down, 2 in use: min_healthy"},
		{"1 down; 2 failing, 3 failing, 4 failing; 2 down, 3 down", "3 down, 2 in use: " +
			"the checks of all remaining backends failed at once: examine the checks"},
		{"1 down; 2 down; 3 failing, 4 failing; 3 down, 4 down", "4 down, 2 in use: the checks of all remaining backends"},
	} {
		n := 2
		if strings.Contains(c.story, "4") {
			n = 4
		}
		p := newScene(n, 50)
		for step := range strings.SplitSeq(c.story, "; ") {
			p.after(60, step)
		}
		if !strings.HasPrefix(p.alarm, c.why) {
			t.Errorf("%s: %s, want %s", c.story, p.alarm, c.why)
		}
	}
}

// TestProtectionOfNone checks that a service without backends of weight above 0 needs no
// protection.
func TestProtectionOfNone(t *testing.T) {
	_, v := Protection{}.Decide(nil, Rule{MinHealthy: 50, Sorry: true})
	if len(v.Out)+len(v.Protected) != 0 || v.NoneUp || v.AtOnce || v.Why != "" {
		t.Errorf("%+v", v)
	}
}

// id returns the ID of the n-th backend of the first service.
func id(n byte) service.BackendID { return backendOf(0, n) }
