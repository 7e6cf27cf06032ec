package policy

import (
	"fmt"
	"slices"
	"time"

	"sluice/engine/health"
	"sluice/pipeline/service"
)

// Member is a backend with an effective weight above 0, as Protection sees it.
type Member struct {
	ID    service.BackendID
	State health.State
}

// Rule is a service's configuration of its protection.
type Rule struct {
	MinHealthy int           // percentage of the members that must remain candidates; 0: none
	Sorry      bool          // the service has a sorry server
	Backends   int           // of the service, those that are no members included
	AtOnce     time.Duration // members that fail within this time of each other fail at once
}

// Verdict is the decision about a service's members.
type Verdict struct {
	Out       map[service.BackendID]bool // down, and not a candidate
	Protected map[service.BackendID]bool // down, and a candidate nevertheless
	NoneUp    bool                       // the service has members, and all of them are down
	AtOnce    bool                       // all failed at once: suspect the checks, not the backends
	Why       string                     // the reason for Protected; "": it is empty
	Advice    string                     // what to do about it
}

// Protection decides which backends of a service that are down stop being candidates for new
// connections. Checks can be wrong: when the balancer's own network fails, all of them fail, and to
// take all backends out would turn a fault of the checks into an outage of the service.
//
// A backend that is down goes out as long as MinHealthy of the backends remain. Those that fail
// later stay in. With two backends and 50 %, a dead one goes out, and the second one stays in if it
// fails too.
//
// When the last check of every backend has failed, those failed at once that were up when the last
// of them began to fail, or went down within AtOnce before that. If that is one backend, it failed
// alone: the others went out earlier, each for a reason of its own. Otherwise backends that go down
// stay in, and those that went out just before come back in. That lasts until enough backends are
// up for the rest to go out. A backend that has been out for longer stays out. The only backend of
// a service always fails "at once" and so always stays in: its host then answers clients, or does
// not.
//
// A backend that stays in does not go out while its checks succeed again: it is about to be up.
//
// With a sorry server the last backend that is up does not stay in when it fails: when none is up,
// all are out and the sorry server takes new connections.
//
// Protection is a value. The zero Protection is that of a service that has just been configured.
type Protection struct {
	out       map[service.BackendID]bool
	protected map[service.BackendID]bool
	atOnce    bool
}

// Decide returns the decision about the members, and the Protection for the next call. p and its
// maps are not written.
func (p Protection) Decide(members []Member, rule Rule) (Protection, Verdict) {
	var v Verdict
	var down []Member
	failing := 0
	var last time.Time // when the last of those that fail began to fail
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
	v.AtOnce = rule.MinHealthy > 0 && len(down) > 0 && (all || p.atOnce && up < needed)
	slices.SortFunc(down, func(a, b Member) int { return a.State.Since.Compare(b.State.Since) })
	mayGo := len(members) - needed
	switch {
	case v.NoneUp && rule.Sorry:
		mayGo = len(down)
	case v.AtOnce:
		mayGo = min(mayGo, p.wentBefore(down, last, rule))
	}
	for i, m := range down {
		returns := p.protected[m.ID] && !m.State.Failing && (!v.NoneUp || !rule.Sorry)
		if i < mayGo && !returns {
			add(&v.Out, m.ID)
		} else {
			add(&v.Protected, m.ID)
		}
	}
	if len(v.Protected) > 0 {
		v.Why, v.Advice = why(len(members), &v, rule)
	}
	return Protection{v.Out, v.Protected, v.AtOnce}, v
}

// add puts an ID into a set that may be nil.
func add(set *map[service.BackendID]bool, id service.BackendID) {
	if *set == nil {
		*set = make(map[service.BackendID]bool)
	}
	(*set)[id] = true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// together reports, for members that all fail, whether several of them, or the only one, were still
// up when the last began to fail, or had gone down just before.
func together(members []Member, last time.Time, rule Rule) bool {
	n := 0
	for _, m := range members {
		if m.State.Up || last.Sub(m.State.Since) < rule.AtOnce {
			n++
		}
	}
	return n > 1 || len(members) == 1
}

// wentBefore counts the members that were out before all failed, and not just before. They are the
// first ones in down. The time that counts is that of the last event, which is that one went down
// or that one began to fail: those that went down last may have been dead for hours when the others
// fail.
func (p Protection) wentBefore(down []Member, last time.Time, rule Rule) int {
	last = later(last, down[len(down)-1].State.Since)
	for i, m := range down {
		if !p.out[m.ID] || last.Sub(m.State.Since) < rule.AtOnce && i < len(down)-1 {
			return i
		}
	}
	return len(down)
}

// why returns the reason for the protection, and what to do about it.
func why(members int, v *Verdict, rule Rule) (reason, advice string) {
	switch {
	case members == 1 && rule.Backends > 1:
		return "it is the only backend with a weight above 0", "repair it, or enable another one"
	case members == 1:
		return "it is the only backend", "repair it, or configure a sorry server"
	case v.AtOnce && len(v.Out) > 0:
		return "the checks of all remaining backends failed at once", "examine the checks, and the network to the backends"
	case v.AtOnce:
		return "the checks of all backends failed at once", "examine the checks, and the network to the backends"
	}
	return fmt.Sprintf("min_healthy keeps %d %% of the backends in use", rule.MinHealthy), "repair some"
}
