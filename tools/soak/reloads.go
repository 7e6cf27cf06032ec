package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/pause"
)

// reloadTimeout bounds one reload.
const reloadTimeout = 20 * time.Second

// change is what a reload changes. undo returns the configuration to what it was before, in the
// next reload; nil: the change stays.
type change struct {
	what string
	undo func()
}

// reloadAll reloads something else each time until ctx ends, and never breaks a connection.
func (s *soak) reloadAll(ctx context.Context) {
	random := s.random(2)
	changes := []func(*rand.Rand) change{s.reweigh, s.remove, s.reschedule, s.drain, s.resource, s.add, s.retime}
	var last change
	for n := 0; pause.For(ctx, s.Reload) == nil; n++ {
		what := ""
		if last.undo != nil {
			last.undo()
			what = "no longer: " + last.what + "; "
		}
		last = changes[n%len(changes)](random)
		if err := s.reload(ctx, what+last.what); err != nil && ctx.Err() == nil {
			s.fail("reload: %s: %v", last.what, err)
		}
	}
	if last.undo != nil {
		last.undo()
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadTimeout)
	defer cancel()
	if err := s.reload(after, "the last one"); err != nil {
		s.fail("the last reload: %v", err)
	}
}

func (s *soak) reload(ctx context.Context, what string) error {
	if err := s.daemon.Write(s.cfg); err != nil {
		return err
	}
	each, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	began := time.Now()
	result, err := s.daemon.API.Reload(each, api.ReloadOptions{})
	if err != nil {
		return err
	}
	took := time.Since(began)
	s.mu.Lock()
	s.reloads++
	s.slowestLoad = max(s.slowestLoad, took)
	s.mu.Unlock()
	fmt.Fprintf(s.Out, "%s reload in %d ms: %s: %d changes\n", s.elapsed(), took.Milliseconds(), what, len(result.Changes))
	return nil
}

// each calls f for each backend line of the soak's services that is in the file.
func (s *soak) each(f func(service *testbed.Service, server *testbed.Server)) {
	for i := range s.cfg.Services {
		for j := range s.cfg.Services[i].Backends {
			f(&s.cfg.Services[i], &s.cfg.Services[i].Backends[j])
		}
	}
}

// reweigh gives all backends other weights.
func (s *soak) reweigh(random *rand.Rand) change {
	s.each(func(_ *testbed.Service, server *testbed.Server) {
		weight := 1 + random.IntN(5)
		server.Weight = &weight
	})
	return change{what: "other weights"}
}

// pick claims a backend that is not dead; undo releases it.
func (s *soak) pick(random *rand.Rand) (i int, ok bool) {
	for _, i := range random.Perm(testbed.Backends) {
		if s.claim(i) {
			return i, true
		}
	}
	return 0, false
}

// remove takes a backend out of the file.
func (s *soak) remove(random *rand.Rand) change {
	i, ok := s.pick(random)
	if !ok {
		return change{what: "nothing"}
	}
	before := make([][]testbed.Server, len(s.cfg.Services))
	for n := range s.cfg.Services {
		service := &s.cfg.Services[n]
		before[n] = service.Backends
		service.Backends = slices.DeleteFunc(slices.Clone(service.Backends), func(b testbed.Server) bool { return s.is(b, i) })
	}
	return change{"without " + s.bed.Backends[i].Name, func() {
		for n := range before {
			s.cfg.Services[n].Backends = before[n]
		}
		s.release(i)
	}}
}

// is reports whether a line is backend i.
func (s *soak) is(line testbed.Server, i int) bool {
	return line.Address == s.bed.Backends[i].Addr(4).String() || line.Address == s.bed.Backends[i].Addr(6).String()
}

// drain gives a backend weight 0.
func (s *soak) drain(random *rand.Rand) change {
	i, ok := s.pick(random)
	if !ok {
		return change{what: "nothing"}
	}
	set := func(weight int) {
		s.each(func(_ *testbed.Service, server *testbed.Server) {
			if s.is(*server, i) {
				server.Weight = &weight
			}
		})
	}
	set(0)
	return change{"drain " + s.bed.Backends[i].Name, func() { set(1); s.release(i) }}
}

// schedulers are those that have met each other's connections when a soak has been long enough.
var schedulers = []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "random", "p2c", "mh", "sh"}

// reschedule gives each service another scheduler.
func (s *soak) reschedule(random *rand.Rand) change {
	var all []string
	for i := range s.cfg.Services {
		s.cfg.Services[i].Scheduler = schedulers[random.IntN(len(schedulers))]
		all = append(all, s.cfg.Services[i].Scheduler)
	}
	return change{what: "schedulers " + strings.Join(all, " ")}
}

// resource makes the fullnat services send from another address: the connections of the former one
// go on.
func (s *soak) resource(random *rand.Rand) change {
	for i := range s.cfg.Services {
		service := &s.cfg.Services[i]
		if service.Mode != "fullnat" {
			continue
		}
		family := testbed.ModePaths[i].Family
		first, second := testbed.ModePaths[i].Seen().String(), testbed.SecondSource(family).String()
		service.Source = [][]string{{first}, {second}, {first, second}}[random.IntN(3)]
	}
	return change{what: "other fullnat sources"}
}

// add adds a service.
func (s *soak) add(random *rand.Rand) change {
	i := random.IntN(len(s.cfg.Services))
	service := s.cfg.Services[i]
	service.Name += "-more"
	service.Port = port + 1
	service.Health = nil
	service.Backends = slices.Clone(service.Backends)
	for j := range service.Backends {
		service.Backends[j].Port = port + 1
	}
	s.cfg.Services = append(s.cfg.Services, service)
	return change{"service " + service.Name, func() { s.cfg.Services = s.cfg.Services[:len(s.cfg.Services)-1] }}
}

// retime gives services slow start, or another timeout.
func (s *soak) retime(random *rand.Rand) change {
	for i := range s.cfg.Services {
		service := &s.cfg.Services[i]
		service.SlowStart = []string{"", "5s"}[random.IntN(2)]
		service.Timeouts = map[string]string{"tcp_time_wait": []string{"1m", "2m"}[random.IntN(2)]}
	}
	return change{what: "other timeouts and slow start"}
}
