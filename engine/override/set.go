package override

import (
	"fmt"
	"maps"
	"time"

	"sluice/conf"
	"sluice/pipeline/service"
)

// Set holds all overrides by backend. It includes those of backends that are not configured: a
// backend that leaves the file by mistake and comes back has its override again. No Override in it
// is empty. A Set that is in force is never written: see With and Clone.
type Set map[service.BackendID]Override

// Clone returns a copy that may be written.
func (s Set) Clone() Set {
	if s == nil {
		return make(Set)
	}
	return maps.Clone(s)
}

// With returns a copy of s in which the backend has the override o. An empty o removes it.
func (s Set) With(id service.BackendID, o Override) Set {
	next := s.Clone()
	next.Put(id, o)
	return next
}

// Put sets a backend's override. An empty o removes it.
func (s Set) Put(id service.BackendID, o Override) {
	if o.Empty() {
		delete(s, id)
	} else {
		s[id] = o
	}
}

// Weight returns the effective weight of a backend.
func (s Set) Weight(id service.BackendID, configured int) int {
	return s[id].EffectiveWeight(configured)
}

// Weights returns the effective weights that differ from the configured ones.
func (s Set) Weights(cfg *conf.Config) map[service.BackendID]int {
	out := make(map[service.BackendID]int, len(s))
	if len(s) == 0 {
		return out
	}
	for id, b := range cfg.EachBackend() {
		if w := s.Weight(id, b.Weight); w != b.Weight {
			out[id] = w
		}
	}
	return out
}

// Evicted returns the backends with connections that must end at the given time.
func (s Set) Evicted(now time.Time) map[service.BackendID]bool {
	out := make(map[service.BackendID]bool)
	for id, o := range s {
		if o.Evicts(now) {
			out[id] = true
		}
	}
	return out
}

// Expired returns the backends with a deadline after then and not after now.
func (s Set) Expired(then, now time.Time) (ids []service.BackendID) {
	for id, o := range s {
		if o.Evicts(now) && !o.Evicts(then) {
			ids = append(ids, id)
		}
	}
	return ids
}

// NextDeadline returns the first deadline after now, or the zero time.
func (s Set) NextDeadline(now time.Time) (first time.Time) {
	for _, o := range s {
		if o.Deadline.After(now) && (first.IsZero() || o.Deadline.Before(first)) {
			first = o.Deadline
		}
	}
	return first
}

// Yield returns the set without the weights that yield to new ones in the file, and one line of
// text for each of them. Without any it returns s itself.
func (s Set) Yield(cfg *conf.Config) (next Set, yielded []string) {
	next = s
	for i := range cfg.Services {
		svc := &cfg.Services[i]
		for j := range svc.Backends {
			b := &svc.Backends[j]
			id := svc.Key.BackendID(b.Key)
			o := s[id]
			if !o.Yields(b.Weight) {
				continue
			}
			yielded = append(yielded, fmt.Sprintf("service %s: backend %s: the weight %d set at run time yields to the file's",
				svc.Name, b.Key, *o.Weight))
			if len(yielded) == 1 {
				next = s.Clone()
			}
			next.Put(id, o.WithoutWeight())
		}
	}
	return next, yielded
}
