package health

import (
	"fmt"
	"slices"
	"sluice/pipeline/service"
	"time"
)

// Member is a backend of a service as Protection sees it: one that takes new connections if it is
// up.
type Member struct {
	ID    service.BackendID
	State State
}

// Rule is the configured protection of a service.
type Rule struct {
	MinHealthy int           // percentage of the members that stay in use; 0: none must
	Sorry      bool          // a sorry server serves when no member is up
	AtOnce     time.Duration // members that fail within this time fail at once
}

// Verdict is the result of Judge for the members of a service.
type Verdict struct {
	Out       map[service.BackendID]bool // down, and not in use
	Protected map[service.BackendID]bool // down, and in use nevertheless
	NoneUp    bool                       // there are members, and all are down
	AtOnce    bool                       // all failed at once: suspect the checks, not the backends
	Why       string                     // why Protected are; "": there are none
	Alarm     string                     // the same as a sentence, with advice
}

// Protection decides which of a service's backends that are down are taken out of use. Checks can
// be wrong: when the balancer's own network fails, all checks fail, and taking all backends out
// would turn a fault of the checks into an outage of the service.
//
// A backend that is down is taken out as long as MinHealthy per cent of the backends remain in use;
// those that fail later stay in use. For example, of two backends (at 50 %) the first that fails is
// taken out, and the second, should it fail too, stays.
//
// When the last check of every backend has failed, these backends failed at once: those that were
// up when the last of them began to fail, or that went down within AtOnce before. If that is one
// backend, it failed alone: the others went down earlier for reasons of their own. Otherwise
// backends that go down now stay in use, and those that were taken out just before return. That
// lasts until enough are up again that the rest may be taken out. Backends that have been out for
// longer stay out. A service's only backend always fails "at once" and so always stays: if it is
// dead, its clients get its RST or no answer.
//
// A backend in use stays in use while its checks succeed again: it will soon be up.
//
// With a sorry server the last backend up does not stay when it fails: with none up, all are out
// and the sorry server serves.
//
// The zero Protection is ready for use. Only one goroutine may use it.
type Protection struct {
	out    map[service.BackendID]bool
	kept   map[service.BackendID]bool // were protected
	atOnce bool
}

// Judge decides about the members, which are all backends with a weight above 0.
func (p *Protection) Judge(members []Member, rule Rule) Verdict {
	v := Verdict{Out: map[service.BackendID]bool{}, Protected: map[service.BackendID]bool{}}
	var down []Member
	failing := 0
	var last time.Time // when the last of the failing ones began to fail
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

// together reports, for members that all fail, whether several of them, or the only one, were up
// when the last began to fail or had gone down just before.
func together(members []Member, last time.Time, rule Rule) bool {
	n := 0
	for _, m := range members {
		if m.State.Up || last.Sub(m.State.Since) < rule.AtOnce {
			n++
		}
	}
	return n > 1 || len(members) == 1
}

// wentBefore returns how many members were out before all failed, and not just before. They come
// first in down. The latest event counts, whether a backend went down or began to fail: the
// backends that went down last may have been dead for hours when the others fail.
func (p *Protection) wentBefore(down []Member, last time.Time, rule Rule) int {
	last = later(last, down[len(down)-1].State.Since)
	for i, m := range down {
		if !p.out[m.ID] || last.Sub(m.State.Since) < rule.AtOnce && i < len(down)-1 {
			return i
		}
	}
	return len(down)
}

// why returns the reason for the protection, as a phrase and as a sentence.
func (p *Protection) why(members int, v *Verdict, rule Rule) (brief, full string) {
	down := len(v.Out) + len(v.Protected)
	switch {
	case members == 1:
		return "it is the only backend", "the only backend is down and stays in use: repair it, or configure a sorry server"
	case p.atOnce:
		brief = "the checks of all backends failed at once"
		if len(v.Out) > 0 {
			brief = "the checks of all remaining backends failed at once"
		}
		return brief, fmt.Sprintf("%d of %d backends are down, %d of them in use nevertheless, because %s: examine the checks, and the network to the backends",
			down, members, len(v.Protected), brief)
	}
	brief = fmt.Sprintf("min_healthy keeps %d %% of the backends in use", rule.MinHealthy)
	return brief, fmt.Sprintf("%d of %d backends are down, %d of them in use nevertheless, because %s: repair some", down, members, len(v.Protected), brief)
}
