package tables

import (
	"fmt"
	"reflect"
	"slices"
)

// sameSurroundings reports whether the inputs differ in Health at most, and that for the same
// configuration. Large parts are the same if they are the same object, so that nothing here takes
// longer with more backends.
func (in *Input) sameSurroundings(other *Input) bool {
	return in.Health.Config() == other.Health.Config() && in.Hops == other.Hops &&
		reflect.ValueOf(in.Sources).Pointer() == reflect.ValueOf(other.Sources).Pointer() &&
		slices.Equal(in.Locals, other.Locals) && slices.Equal(in.Broadcasts, other.Broadcasts) && slices.Equal(in.Networks, other.Networks) && in.KernelPorts == other.KernelPorts &&
		slices.EqualFunc(in.Cards, other.Cards, Card.equal) && in.Workers == other.Workers &&
		in.Lists == other.Lists && sameSlice(in.Probed, other.Probed) && sameSlice(in.Probers, other.Probers) &&
		sameSlice(in.VIPs, other.VIPs) && sameSlice(in.Stations, other.Stations)
}

// sameSlice reports whether two slices are the same part of the same array.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// update is Compile for an input with the surroundings of the one before. What was decided about
// health concerns schedulers, Up and Evict only: numbers, ownership, SNAT pools, rules and look-up
// maps stay as they are and are shared. What remains to grow with the number of backends is copying
// the arrays that the workers read, which must be flat: that of services, and those of backends if
// Up or Evict of one changes. The drain of a backend changes neither until its deadline.
func (r *Result) update(in *Input) (Result, error) {
	next := *r.State
	changed := in.Health.ChangedServices(r.input.Health)
	changed = append(changed, in.Health.ExpiredServices(r.input.Health)...)
	if at := next.SettlesAt(); !at.IsZero() && !at.After(in.Now) {
		for i := range next.ids.numbers {
			if next.schedulers.settled(next.ids.numbers[i].service, in.Now) {
				changed = append(changed, i)
			}
		}
	}
	slices.Sort(changed)
	changed = slices.Compact(changed)

	next.last = next.ids.lastWeights(in, r.last, false, changed)
	b := next.builder(in, slices.Clone(r.Tables.Services), r.Tables.Backends, false)
	b.shared = true
	var services []uint32
	for _, i := range changed {
		s, numbers := &b.config.Services[i], &next.ids.numbers[i]
		if err := b.configure(s, numbers, in.Health.Backends(i)); err != nil {
			return Result{}, fmt.Errorf("service %s: %w", s.Name, err)
		}
		services = append(services, numbers.service)
	}
	for _, number := range next.removed {
		be := &b.backends[number]
		b.decide(number, be.Configured, be.Up, next.evictsRemoved(in, number))
	}
	slices.Sort(services)
	slices.Sort(b.changed)
	next.schedulers = b.schedulers.finish(len(b.config.Services))
	t := r.Tables.Update(b.services, b.backends, services, slices.Compact(b.changed))
	return Result{Tables: t, Rules: r.Rules, State: &next, input: in}, nil
}
