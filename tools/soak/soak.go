package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/engine/api"
	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// Options configures a soak.
type Options struct {
	Sluice string        // the program
	Time   time.Duration // of traffic
	Rate   int           // new connections per second
	Loss   int           // per cent of the segments, in each direction between client and router
	Reload time.Duration // between two reloads
	Death  time.Duration // between the beginnings of two deaths
	Seed   uint64

	// Timeout is how long a client waits for each step. So many segments in a row must be lost too
	// rarely to matter: in two minutes, the kernel sends a SYN eleven times, and data nine times.
	Timeout time.Duration

	Name string // of the lab
	Out  io.Writer
}

// port is the services' and the servers' port.
const port = 7000

// The health checks. A dead backend is down within fall intervals and a timeout.
const (
	checkInterval = 500 * time.Millisecond
	checkTimeout  = time.Second
	checkFall     = 3
	noticeTime    = checkFall*(checkInterval+checkTimeout) + 2*time.Second
)

// soak is one run.
type soak struct {
	Options
	bed      *testbed.Bed
	daemon   *testbed.Daemon
	cfg      testbed.Config
	client   *clientProcess
	losses   []*netlab.Loss
	timeline timeline
	began    time.Time
	servers  [testbed.Backends]server
	clean    usage // of the daemon before there was traffic

	mu          sync.Mutex // guards what follows
	totals      Totals
	broken      []*fate
	unnamed     []*fate // of which the daemon's table may still know the backend
	busy        [testbed.Backends]bool
	wrong       []string
	events      []api.Event
	usage       []usage
	reloads     int
	slowestLoad time.Duration
}

// server is the server of a backend.
type server struct {
	process *netlab.Process
	starts  int
}

// fate is a broken connection and what is known of its end.
type fate struct {
	Broken
	backend string     // by the daemon's table, if the server did not say its name; "": not known
	entries []api.Conn // of the daemon's table, which should be one
	death   *Death
}

// run runs a soak. Its error is the reason why it could not continue; s.wrong has what was found.
func (s *soak) run(ctx context.Context) (err error) {
	s.timeline.notice = noticeTime
	if s.bed, err = testbed.New(ctx, testbed.Options{Name: s.Name, Sluice: s.Sluice, Queues: 4}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.bed.Close()) }()
	if err := s.setUp(ctx); err != nil {
		return err
	}
	events, cancel := context.WithCancel(ctx)
	defer cancel()
	followed, err := follow(events, s.daemon.Socket, s.event)
	if err != nil {
		return err
	}
	if s.clean, err = usageOf(s.daemon.Process.PID()); err != nil {
		return err
	}
	if err := s.traffic(ctx); err != nil {
		return err
	}
	if err := s.rest(ctx); err != nil {
		return err
	}
	cancel()
	<-followed
	s.conclude(ctx)
	return s.daemon.Stop()
}

// setUp starts servers, the daemon, and the loss.
func (s *soak) setUp(ctx context.Context) (err error) {
	if err := s.bed.AddSources(); err != nil {
		return err
	}
	for i := range s.servers {
		if err := s.start(ctx, i); err != nil {
			return err
		}
	}
	if s.cfg, err = s.config(); err != nil {
		return err
	}
	if s.daemon, err = s.bed.Start(ctx, s.cfg); err != nil {
		return err
	}
	for _, end := range []struct {
		host   *netlab.Host
		ifname string
	}{{s.bed.Client, "eth0"}, {s.bed.Router, "client"}} {
		loss, err := end.host.LoseTCP(end.ifname, int32(s.Loss))
		if err != nil {
			return err
		}
		s.losses = append(s.losses, loss)
	}
	return nil
}

// start starts the server of a backend, under a new name.
func (s *soak) start(ctx context.Context, i int) (err error) {
	s.servers[i].starts++
	s.servers[i].process, err = startServer(ctx, s.bed.Backends[i].Host, s.serverName(i), port)
	return err
}

// serverName returns the name of the server that runs, or has died last: "b2#3" is the third of b2.
func (s *soak) serverName(i int) string {
	return fmt.Sprintf("%s#%d", s.bed.Backends[i].Name, s.servers[i].starts)
}

// config returns the first configuration.
func (s *soak) config() (testbed.Config, error) {
	allowed, err := cpu.Allowed()
	if err != nil || len(allowed) < 2 {
		return testbed.Config{}, errors.Join(err, fmt.Errorf("two workers need two CPUs: %v are allowed", allowed))
	}
	cfg := testbed.NewConfig(0)
	cfg.Engine = testbed.Engine{Cores: allowed[len(allowed)-2:], Connections: 1 << 18}
	for _, p := range testbed.ModePaths {
		service := p.Web()
		service.Port = port
		for i := range service.Backends {
			service.Backends[i].Port = port
			weight := 1
			service.Backends[i].Weight = &weight
		}
		service.Health = map[string]any{
			"type": "tcp", "expect": greetingWord, "interval": checkInterval.String(), "timeout": checkTimeout.String(),
			"rise": 2, "fall": checkFall, "flap_hold": "2s",
		}
		cfg.Services = append(cfg.Services, service)
	}
	return cfg, nil
}

// load returns what the clients do.
func (s *soak) load() Load {
	l := Load{Rate: s.Rate, Timeout: s.Timeout, Longest: min(100*time.Second, s.Time/3), Seed: s.Seed}
	for i, p := range testbed.ModePaths {
		l.Targets = append(l.Targets, Target{s.cfg.Services[i].Name, netip.AddrPortFrom(p.Address(), port), p.Client()})
	}
	return l
}

// traffic runs the clients, and beside them what disturbs.
func (s *soak) traffic(ctx context.Context) (err error) {
	if s.client, err = startClient(s.bed.Client, s.load(), s.receive); err != nil {
		return err
	}
	s.began = time.Now()
	during, cancel := context.WithTimeout(ctx, s.Time)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { s.reloadAll(during) })
	all.Go(func() { s.dieAll(during, ctx) })
	all.Go(func() { s.watch(during) })
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.client.input.Close(); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s no new connections any more; waiting for those that are open\n", s.elapsed())
	finish := time.After(3 * s.Timeout)
	for {
		select {
		case <-s.client.ended:
			s.identify(ctx)
			return s.client.process.Wait()
		case <-finish:
			return fmt.Errorf("connections are still open %v after the last one was opened", 3*s.Timeout)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			s.identify(ctx)
		}
	}
}

// receive takes a message of the client.
func (s *soak) receive(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Totals != nil {
		s.totals = *m.Totals
	}
	if m.Broken != nil {
		f := &fate{Broken: *m.Broken}
		s.broken = append(s.broken, f)
		s.unnamed = append(s.unnamed, f)
	}
}

// event takes an event of the daemon.
func (s *soak) event(e api.Event) {
	s.mu.Lock()
	s.events = append(s.events, e)
	s.mu.Unlock()
	if name := s.backendName(e.Fields["backend"]); name != "" {
		switch e.Event {
		case "backend_down":
			s.timeline.state(e.Fields["service"], name, true, e.Time)
		case "backend_up", "backend_drain":
			s.timeline.state(e.Fields["service"], name, false, e.Time)
		}
	}
}

// backendName returns the name of the backend with that address and port.
func (s *soak) backendName(endpoint string) string {
	at, err := netip.ParseAddrPort(endpoint)
	if err != nil {
		return ""
	}
	i := slices.IndexFunc(s.bed.Backends[:], func(b *testbed.Backend) bool { return b.Addr(4) == at.Addr() || b.Addr(6) == at.Addr() })
	if i < 0 {
		return ""
	}
	return s.bed.Backends[i].Name
}

// fail records something that is wrong.
func (s *soak) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	fmt.Fprintf(s.Out, "%s WRONG: %s\n", s.elapsed(), s.wrong[len(s.wrong)-1])
}

// elapsed returns the time since the start of the traffic.
func (s *soak) elapsed() string { return fmt.Sprintf("%7.1f", time.Since(s.began).Seconds()) }

// random returns a source of random numbers for one purpose.
func (s *soak) random(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, purpose)) }

// claim takes a backend for a death or a change, so that a backend has one of them at a time.
func (s *soak) claim(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[i] {
		return false
	}
	s.busy[i] = true
	return true
}

func (s *soak) release(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[i] = false
}

// usage is what the daemon uses at a time.
type usage struct {
	testbed.Usage
	at time.Time
}

func usageOf(pid int) (usage, error) {
	u, err := testbed.UsageOf(pid)
	return usage{u, time.Now()}, err
}
