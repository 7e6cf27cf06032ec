package health

import (
	"fmt"
	"slices"
	"sluice/pipeline/service"
	"time"
)

// Member is a backend of a service, as Protection looks at it: one that takes new connections if it
// is up.
type Member struct {
	ID    service.BackendID
	State State
}

// Rule is what a service says about its protection.
type Rule struct {
	MinHealthy int           // per cent of the members that stay in the choice; 0: none need to
	Sorry      bool          // there is a server for when no member is up
	AtOnce     time.Duration // members that fail within this time fail at once
}

// Verdict is what becomes of a service's members.
type Verdict struct {
	Out       map[service.BackendID]bool // down, and out of the choice
	Protected map[service.BackendID]bool // down, and in the choice all the same
	NoneUp    bool                       // there are members, and all are down
	AtOnce    bool                       // all failed at once, which says more about the checks than about the backends
	Why       string                     // why Protected are; "": nobody is
	Alarm     string                     // the same as a sentence, with what to do
}

// Protection decides which of a service's backends that are down leave the choice. Checks can be
// wrong: when the balancer's own network is gone, all fail, and taking them out would turn a fault
// of the checks into an outage of the service.
//
// A backend that is down goes out as long as MinHealthy of the backends remain; those that fail
// later stay in. So of two backends (at 50 %) a dead one goes, and its neighbour, should it fail
// too, stays.
//
// When the last check of every backend has failed, those failed at once that were up when the last
// of them began to fail, or went down within AtOnce before. If that is one, it failed alone: the
// others went long ago, each for a reason of its own. Else whoever goes down stays in, and those
// come back in that went out just before. That lasts until so many are up again that the rest may
// go. What has been out for longer stays out. A service's only backend always fails "at once" and
// so always stays: a dead one then answers for itself (RST), or not.
//
// Nobody who stays in goes out while the checks find that it works again: it is about to be up.
//
// With a sorry server the last one up doesn't stay when it fails: with nobody up, all are out and
// the sorry server is in.
//
// The zero Protection has seen nothing yet. It belongs to one goroutine.
type Protection struct {
	out    map[service.BackendID]bool
	kept   map[service.BackendID]bool // were protected
	atOnce bool
}

// Judge looks at the members, which are all that have a weight above 0.
func (p *Protection) Judge(members []Member, rule Rule) Verdict {
	v := Verdict{Out: map[service.BackendID]bool{}, Protected: map[service.BackendID]bool{}}
	var down []Member
	failing := 0
	var last time.Time // when the last of those that fail began to
	for _, m := range members {
		if m.State.Failing {
			failing++
			last = later(last, m.State.Failed)
		}
		if !m.State.Up {
			down = append(down, m)
		}
	}
	needed := (len(members)*rule.MinHealthy + 99) / 100
	up := len(members) - len(down)
	v.NoneUp = len(members) > 0 && up == 0
	all := failing == len(members) && (p.atOnce || together(members, last, rule))
	p.atOnce = rule.MinHealthy > 0 && len(down) > 0 && (all || p.atOnce && up < needed)
	v.AtOnce = p.atOnce
	slices.SortFunc(down, func(a, b Member) int { return a.State.Since.Compare(b.State.Since) })
	mayGo := len(members) - needed
	switch {
	case v.NoneUp && rule.Sorry:
		mayGo = len(down)
	case p.atOnce:
		mayGo = min(mayGo, p.wentBefore(down, last, rule))
	}
	for i, m := range down {
		returns := p.kept[m.ID] && !m.State.Failing && (!v.NoneUp || !rule.Sorry)
		if i < mayGo && !returns {
			v.Out[m.ID] = true
		} else {
			v.Protected[m.ID] = true
		}
	}
	p.out, p.kept = v.Out, v.Protected
	if len(v.Protected) > 0 {
		v.Why, v.Alarm = p.why(len(members), &v, rule)
	}
	return v
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// together says of members that all fail that several of them, or the only one, still were up when
// the last began to fail, or had gone down just before.
func together(members []Member, last time.Time, rule Rule) bool {
	n := 0
	for _, m := range members {
		if m.State.Up || last.Sub(m.State.Since) < rule.AtOnce {
			n++
		}
	}
	return n > 1 || len(members) == 1
}

// wentBefore counts the members that were out before all failed, and not just before. They are
// first in down. It goes by what happened last, be it that one went down or that one began to fail:
// those that went down last may have been dead for hours when the others fail.
func (p *Protection) wentBefore(down []Member, last time.Time, rule Rule) int {
	last = later(last, down[len(down)-1].State.Since)
	for i, m := range down {
		if !p.out[m.ID] || last.Sub(m.State.Since) < rule.AtOnce && i < len(down)-1 {
			return i
		}
	}
	return len(down)
}

// why explains the protection, briefly and in full.
func (p *Protection) why(members int, v *Verdict, rule Rule) (brief, full string) {
	down := len(v.Out) + len(v.Protected)
	switch {
	case members == 1:
		return "it is the only backend", "the only backend is down, and stays in use: repair it, or name a sorry server"
	case p.atOnce:
		brief = "the checks of all backends failed at once"
		if len(v.Out) > 0 {
			brief = "the checks of all backends that were left failed at once"
		}
		return brief, fmt.Sprintf("%d of %d backends are down, %d of them in use all the same, because %s: look at the checks, and at the way to the backends",
			down, members, len(v.Protected), brief)
	}
	brief = fmt.Sprintf("min_healthy keeps %d %% of the backends in use", rule.MinHealthy)
	return brief, fmt.Sprintf("%d of %d backends are down, %d of them in use all the same, because %s: repair some", down, members, len(v.Protected), brief)
}
