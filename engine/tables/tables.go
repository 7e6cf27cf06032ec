// Package tables compiles what the workers read, and which packets are steered to them, from the
// configuration and a description of its surroundings.
//
// Four steps make tables, of which this package is the second:
//
//	resolve   the engine collects an Input: all that comes from outside
//	compile   Compile returns tables, steering rules and the next State
//	publish   the engine programs the rules and hands the tables to the workers
//	commit    the next State becomes the engine's
//
// Compile is a pure function of the Input and the State of the last tables that were published. It
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

// Input is what tables follow from, besides the State of the tables before. Compile retains the
// slices, which must not be written afterwards.
type Input struct {
	Health *policy.State // with the configuration; which backends take new connections, and weights

	Hops        *nexthop.Table
	Locals      []netip.Addr              // addresses of this host, ascending
	Sources     map[netip.Addr]netip.Addr // tun backend -> local address towards it, if there is one
	KernelPorts service.Ports             // L4 ports that the kernel assigns to its own connections
	Cards       []Card                    // by NIC port
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
	rules      steer.Rules
}

// Result is what Compile returns.
type Result struct {
	Tables *pipeline.Tables
	Rules  steer.Rules
	State  *State
}

// Compile returns the tables and rules for in, given the state of the tables before. Equal
// arguments give equal results.
func Compile(in *Input, before *State) (Result, error) {
	next := *before
	config := in.Health.Config().Config
	changed := before.ids.config != config
	if changed {
		var err error
		if next.ids, err = before.ids.with(config); err != nil {
			return Result{}, err
		}
	}
	next.last = next.ids.lastWeights(in, before.last, changed)
	if err := next.snat.update(in, &next.ids, changed); err != nil {
		return Result{}, err
	}
	services, backends, err := next.build(in, changed)
	if err != nil {
		return Result{}, err
	}
	if changed || !next.snat.sameSurroundings(&before.snat) || !sameProbes(&before.rules, in) {
		next.rules = rulesOf(in, &next.ids)
	}
	return Result{
		Tables: pipeline.NewTables(services, backends, in.Hops, next.snat.sources, next.snat.refs),
		Rules:  next.rules, State: &next,
	}, nil
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
