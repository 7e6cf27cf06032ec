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

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/engine/steer"
	"sluice/pipeline"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/service"
)

// Input is what tables follow from, besides the State of the tables before. Compile retains it: no
// part of it may be written afterwards.
type Input struct {
	Health *policy.State // with the configuration; which backends take new connections, and weights

	Hops   *nexthop.Table
	Locals []netip.Addr // addresses of this host, ascending
	// Sources: tun backend -> local address towards it, if there is one
	Sources     map[netip.Addr]netip.Addr
	KernelPorts service.Ports // L4 ports that the kernel assigns to its own connections
	Cards       []Card        // by NIC port
	Workers     int
	Spread      bool // every NIC port has a queue for each worker

	Probed, Probers []service.Key // see steer.Rules
}

// State is what one compile passes on to the next. It is immutable: any goroutine may read it. The
// zero State is that of an engine without tables.
type State struct {
	ids        ids
	last       []int // by backend number: the last weight above 0, by which mh places the backend
	history    []ownership
	snat       snatState
	schedulers schedulers
	removed    []uint32 // numbers of backends that are not configured, ascending
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
	if before.input != nil && in.sameSurroundings(before.input) {
		return before.update(in)
	}
	next := *before.State
	config := in.Health.Config().Config
	changed := next.ids.config != config
	if changed {
		var err error
		if next.ids, err = before.ids.with(config); err != nil {
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
	if changed || !next.snat.sameSurroundings(&before.snat) || !sameProbes(&rules, in) {
		rules = rulesOf(in, &next.ids)
	}
	t := pipeline.NewTables(services, backends, in.Hops, next.snat.sources, next.snat.refs)
	return Result{Tables: t, Rules: rules, State: &next, input: in}, nil
}

// places returns the places of n services.
func places(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Services returns the services by number, from 1 on, as they were last configured. The caller must
// not write to the slice.
func (s *State) Services() []conf.Service { return s.ids.services }

// Backends returns the backends by number, from 1 on. The caller must not write to the slice.
func (s *State) Backends() []Backend { return s.ids.backends }

// LastWeight returns the last weight above 0 of the backend with a number, 0 if it never had one.
func (s *State) LastWeight(number uint32) int { return s.last[number] }

// Numbers returns the numbers that a backend has had, one for each mode that it was ever in.
func (s *State) Numbers(id service.BackendID) (numbers []uint32) { return s.ids.all(id) }
