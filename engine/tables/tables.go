// Package tables compiles what the workers read, and which packets are steered to them, from the
// configuration and a description of its surroundings.
//
// Four steps make tables, of which this package is the second:
//
//	resolve   the engine collects an Input: all that comes from outside
//	compile   Compile returns tables, steering rules and the next State
//	publish   the engine programs the rules and hands the tables to the workers
//	commit    the Result becomes the engine's
//
// Compile is a pure function of the Input and the Result that was published last. It
// changes neither. A State is a value: parts that a compile does not change are shared with the one
// before. A caller that fails to publish drops the result and still has the former State, so that a
// failure leaves nothing behind.
//
// What a State holds must outlive one configuration, because connections do: the numbers of
// services and backends (ids.go), how each service's connections were owned (ownership.go), the
// SNAT pools (snat.go) and the schedulers (scheduler_cache.go).
package tables

import (
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/health/policy"
	"sluice/engine/steer"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// Input is what tables follow from, besides the State of the tables before. Compile retains it: no
// part of it may be written afterwards.
type Input struct {
	Health *policy.State // with the configuration; which backends take new connections, and weights

	Hops   *nexthop.Table
	Locals []netip.Addr // addresses of this host, ascending
	// Broadcasts are the broadcast addresses of its subnets, Networks those that a port is in. Both
	// are ascending.
	Broadcasts []netip.Addr
	Networks   []netip.Prefix
	// Sources: tun backend -> local address towards it, if there is one
	Sources     map[netip.Addr]netip.Addr
	KernelPorts service.Ports // L4 ports that the kernel assigns to its own connections
	Cards       []Card        // by NIC port
	Workers     int
	// Seed: of the daemon: SNAT pools begin at ports that follow from it
	Seed *flow.Seed

	Probed, Probers []service.Key // see steer.Rules
	VIPs            []netip.Addr  // likewise, ascending
	Stations        []steer.Station

	Lists *accesslist.Lists // who may open connections
	Now   time.Time         // of the compile: see SettleTime

	Ended Former // of State.Former: what has no connections any more
}

// Former is what connections may use that is not configured, or that their backend does not use any
// more. New connections do not use it.
type Former struct {
	Backends []uint32   // numbers, ascending
	Pools    []PoolName // SNAT pools
}

func (f *Former) empty() bool { return len(f.Backends)+len(f.Pools) == 0 }

// State is what one compile passes on to the next. It is immutable: any goroutine may read it. The
// zero State is that of an engine without tables.
type State struct {
	ids        ids
	last       []int // by backend number: the last weight above 0, by which mh places the backend
	history    []ownership
	clients    clientPorts
	snat       snatState
	schedulers schedulers
	sources    sources
	removed    []uint32 // those of ids.former that are configured in no mode, ascending
}

// Result is what Compile returns. It is immutable.
type Result struct {
	Tables *pipeline.Tables
	Rules  steer.Rules
	*State

	input *Input // nil: nothing was compiled
}

// None is the Result before the first one: there are no tables.
func None() Result { return Result{State: new(State)} }

// Compile returns the tables and rules for in, given the result before. Equal arguments give equal
// results.
//
// If only decisions about some services' health or overrides differ from the compile before, the
// cost is that of these services, besides copies of arrays: see update.go.
func Compile(in *Input, before Result) (Result, error) {
	ended := !in.Ended.empty()
	if before.input != nil && !ended && in.sameSurroundings(before.input) {
		return before.update(in)
	}
	next := *before.State
	config := in.Health.Config().Config
	changed := next.ids.config != config
	if ended {
		next.forget(in.Ended.Backends)
	}
	if changed {
		var err error
		if next.ids, err = next.ids.with(config); err != nil {
			return Result{}, err
		}
	}
	next.last = next.ids.lastWeights(in, before.last, changed, places(len(config.Services)))
	if err := next.snat.update(in, &next.ids, changed); err != nil {
		return Result{}, err
	}
	services, backends, err := next.build(in, changed)
	if err != nil {
		return Result{}, err
	}
	rules := before.Rules
	if changed || ended || !next.snat.sameSurroundings(&before.snat) || !sameProbes(&rules, in) || !slices.Equal(rules.VIPs, in.VIPs) || !slices.Equal(rules.Stations, in.Stations) {
		rules = rulesOf(in, &next.ids, &next.snat)
	}
	t := pipeline.NewTables(services, backends, in.Hops, next.snat.sources, next.snat.refs, in.ours())
	t.ListsVersion = in.Lists.Version()
	if changed {
		next.sources = next.sources.of(config)
	}
	t.SourceCounts = next.sources.counts
	return Result{Tables: t, Rules: rules, State: &next, input: in}, nil
}

// forget frees the numbers of former backends that have no connections.
func (s *State) forget(ended []uint32) {
	services := slices.Clone(s.ids.services)
	s.ids = s.ids.without(ended)
	s.last, s.history = slices.Clone(s.last), slices.Clone(s.history)
	for _, number := range ended {
		s.last[number] = 0
	}
	for number := range services {
		if s.ids.services[number].Key != services[number].Key {
			s.history[number] = ownership{}
		}
	}
}

// places returns the places of n services.
func places(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Lists returns the lists that the tables have, nil if nothing was compiled.
func (r *Result) Lists() *accesslist.Lists {
	if r.input == nil {
		return nil
	}
	return r.input.Lists
}

// Number returns the number of a service, 0 if it has none.
func (s *State) Number(key service.Key) uint32 { return s.ids.service[key] }

// Refusals returns empty counters for the services of t, by number.
func Refusals(t *pipeline.Tables) []counter.Service {
	all := make([]counter.Service, len(t.Services))
	for i := range t.Services {
		all[i].Of = t.Services[i].Identity()
	}
	return all
}

// Services returns the services by number, from 1 on, as they were last configured. A service
// without an address is a number that is free. The caller must not write to the slice.
func (s *State) Services() []conf.Service { return s.ids.services }

// Backends returns the backends by number, from 1 on. A backend without an address is a number that
// is free. The caller must not write to the slice.
func (s *State) Backends() []Backend { return s.ids.backends }

// Former returns the numbers of backends, and the SNAT pools by name, that only existing
// connections use. The engine passes those without connections as Input.Ended when all workers have
// these tables or later ones: until then new connections may come. They may also come to a backend
// that a service has chosen from less than SettleTime ago, so that is not among them. The pools are
// those of all workers.
func (s *State) Former() (backends []uint32, pools map[PoolName][]*snat.Pool) {
	return s.schedulers.without(s.ids.former), s.snat.former()
}

// LastWeight returns the last weight above 0 of the backend with a number, 0 if it never had one.
func (s *State) LastWeight(number uint32) int { return s.last[number] }

// Numbers returns the numbers of a backend: one for each mode that it is in or has connections in.
func (s *State) Numbers(id service.BackendID) (numbers []uint32) { return s.ids.all(id) }
