package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"sluice/tools/e2e/testbed"
	"sluice/tools/pause"
)

// restartTimeout bounds the start of a server.
const restartTimeout = 20 * time.Second

// dieAll lets one backend after the other die and return, until ctx ends; all have returned then.
// outer lasts beyond ctx.
func (s *soak) dieAll(ctx, outer context.Context) {
	random := s.random(1)
	kinds := []string{killed, silent, hung}
	for n := 0; pause.For(ctx, s.Death/2+time.Duration(random.Int64N(int64(s.Death/2)))) == nil; n++ {
		i := random.IntN(testbed.Backends)
		if !s.claim(i) {
			continue
		}
		err := s.die(ctx, outer, i, kinds[n%len(kinds)], s.lasting(random, n))
		s.release(i)
		if err != nil {
			s.fail("the death of %s: %v", s.bed.Backends[i].Name, err)
			return
		}
	}
}

// lasting returns for how long a backend is dead: one in four returns before anything can have
// noticed.
func (s *soak) lasting(random *rand.Rand, n int) time.Duration {
	if n%4 == 3 {
		return 100*time.Millisecond + time.Duration(random.Int64N(int64(time.Second)))
	}
	return s.Death/4 + time.Duration(random.Int64N(int64(s.Death/2)))
}

// die lets a backend die, and return after some time.
func (s *soak) die(ctx, outer context.Context, i int, kind string, lasting time.Duration) error {
	d := &Death{Backend: s.bed.Backends[i].Name, Server: s.serverName(i), Kind: kind, At: time.Now()}
	s.timeline.die(d)
	process, name := s.servers[i].process, s.bed.Backends[i].Name
	var die, back func() error
	switch kind {
	case killed:
		die = process.Kill
		back = func() error {
			starting, cancel := context.WithTimeout(outer, restartTimeout)
			defer cancel()
			return s.start(starting, i)
		}
	case silent:
		die, back = func() error { return s.bed.Unplug(name) }, func() error { return s.bed.Plug(name) }
	case hung:
		die = func() error { return process.Signal(syscall.SIGSTOP) }
		back = func() error { return process.Signal(syscall.SIGCONT) }
	}
	if err := die(); err != nil {
		return err
	}
	_ = pause.For(ctx, lasting) // or the soak has ended
	if err := back(); err != nil {
		return err
	}
	s.timeline.back(d, time.Now())
	fmt.Fprintf(s.Out, "%s %s\n", s.elapsed(), d)
	return nil
}
