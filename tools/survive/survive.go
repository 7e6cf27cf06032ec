package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
	"sluice/tools/netlab/loadgen"
	"sluice/tools/pause"
)

// Options configures a run.
type Options struct {
	Sluice      string // the program
	Connections int    // that are alive, half of them busy
	PerS        int    // new connections per second
	Workers     int
	Every       time.Duration  // from one message of a busy connection to the next
	Calm        time.Duration  // without an event, at first, for comparison
	Pause       time.Duration  // least time between two events
	Events      map[string]int // how many of each kind
	Seed        uint64

	Name string // of the lab
	Out  io.Writer
}

// port is the services' and the servers' TCP port.
const port = 7000

// Client ports: those of connections that are alive, and those of new ones, which stay in TIME_WAIT
// at the servers for a minute.
const (
	firstAlive = 2000
	firstNew   = 20_000
	newPorts   = 40_000
)

const (
	queues     = 2
	messageLen = 256
	giveUp     = 40 * time.Second      // TCP sends again after as long as it has waited already
	openTime   = 2 * time.Minute       // for all connections
	period     = 10 * time.Millisecond // of datagrams
	quietTime  = 20 * time.Second      // until no packet is in flight
)

// run is one run.
type run struct {
	Options
	bed     *testbed.Bed
	daemon  *testbed.Daemon
	cfg     testbed.Config
	clients []*loadgen.Clients // by service
	streams []*testbed.Stream
	resets  []resets
	began   time.Time

	longest     [8]time.Duration         // of each flow, of the last event
	gaps        map[string]time.Duration // the longest of each kind of event
	openedAgain int                      // events after which sockets were opened again
	lostConns   int                      // by what daemons said
	first, last testbed.Usage            // after the first and the last event
	report      report
}

// resets counts the RSTs that a host receives.
type resets struct {
	host   *netlab.Host
	count  *netlab.Loss
	before int // that it had sent
}

// all makes the run. Its error is the reason why it could not continue.
func (r *run) all(ctx context.Context) (err error) {
	r.gaps = map[string]time.Duration{}
	if r.bed, err = testbed.New(ctx, testbed.Options{Name: r.Name, Sluice: r.Sluice, Queues: queues}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.bed.Close()) }()
	for _, step := range []func(context.Context) error{r.setUp, r.open, r.begin, r.disturb, r.conclude} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	r.report.print(r.Out)
	return nil
}

// setUp starts servers and the daemon.
func (r *run) setUp(ctx context.Context) (err error) {
	for _, b := range r.bed.Backends {
		if _, err := loadgen.Serve(ctx, b.Host, fmt.Sprintf("[::]:%d", port), 1); err != nil {
			return err
		}
	}
	if r.cfg, err = r.config(); err != nil {
		return err
	}
	r.daemon, err = r.bed.Keep(ctx, r.cfg)
	return err
}

func (r *run) config() (testbed.Config, error) {
	allowed, err := cpu.Allowed()
	if err != nil || len(allowed) < r.Workers {
		return testbed.Config{}, errors.Join(err, fmt.Errorf("%d workers need as many CPUs, and there are %d", r.Workers, len(allowed)))
	}
	cfg := testbed.NewConfig(0, testbed.ModePaths...)
	cfg.Engine = testbed.Engine{Cores: allowed[len(allowed)-r.Workers:], Connections: 1 << 18}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Protocol != "tcp" {
			continue
		}
		s.Port = port
		for j := range s.Backends {
			s.Backends[j].Port = port
		}
	}
	return cfg, nil
}

// open opens the connections that are alive, and begins the flows of datagrams.
func (r *run) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	for _, p := range testbed.ModePaths {
		c, err := loadgen.Connect(ctx, r.bed.Client, []netip.Addr{p.Client()}, netip.AddrPortFrom(p.Address(), port).String())
		if err != nil {
			return err
		}
		if _, err := c.Open(ctx, firstAlive, r.each(r.Connections)); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if _, err := c.Echo(ctx); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		r.clients = append(r.clients, c)
		s, err := r.bed.Stream(ctx, p.UDP(), period)
		if err != nil {
			return err
		}
		r.streams = append(r.streams, s)
	}
	return nil
}

// each returns the part of one service.
func (r *run) each(n int) int { return n / len(testbed.ModePaths) }

// begin counts RSTs from now on, and begins the traffic.
func (r *run) begin(ctx context.Context) error {
	hosts := []*netlab.Host{r.bed.Client}
	for _, b := range r.bed.Backends {
		hosts = append(hosts, b.Host)
	}
	for _, h := range hosts {
		count, err := h.CountRST("eth0")
		if err != nil {
			return err
		}
		sent, err := resetsSent(h)
		if err != nil {
			return err
		}
		r.resets = append(r.resets, resets{h, count, sent})
	}
	for _, c := range r.clients {
		if err := c.Begin(ctx, loadgen.Traffic{
			Talking: r.each(r.Connections) / 2, Every: r.Every, Bytes: messageLen,
			PerS: r.each(r.PerS), First: firstNew, Ports: newPorts, GiveUp: giveUp,
		}); err != nil {
			return err
		}
	}
	return nil
}

// disturb makes the events in a random order.
func (r *run) disturb(ctx context.Context) error {
	r.began = time.Now()
	r.counts()
	if err := pause.For(ctx, r.Calm); err != nil {
		return err
	}
	r.gaps[""] = r.counts().Longest
	fmt.Fprintf(r.Out, "%s %d connections and %d new ones per second without an event: gap %d ms\n", r.elapsed(), r.Connections, r.PerS, r.gaps[""].Milliseconds())
	random := rand.New(rand.NewPCG(r.Seed, 0))
	var all []kind
	for _, k := range kinds {
		for range r.Events[k.name] {
			all = append(all, k)
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, k := range all {
		if err := pause.For(ctx, r.Pause+time.Duration(random.Int64N(int64(2*time.Second)))); err != nil {
			return err
		}
		if err := r.event(ctx, i+1, k); err != nil {
			return err
		}
	}
	return nil
}

// conclude ends the traffic, and fills the report.
func (r *run) conclude(ctx context.Context) error {
	sum, silent, err := r.endTraffic(ctx)
	if err != nil {
		return err
	}
	var flows testbed.StreamCounts
	for i, s := range r.streams {
		c := s.End()
		fmt.Fprintf(r.Out, "%s %s: %d of %d datagrams were not answered\n", r.elapsed(), testbed.ModePaths[i], c.Sent-c.Answered, c.Sent)
		flows = plus(flows, c)
	}
	for _, why := range sum.Why {
		fmt.Fprintf(r.Out, "%s\n", why)
	}
	fmt.Fprintf(r.Out, "%s %d messages came back, after %d ms at most; %d new connections, the slowest took %d ms (%d had no port); %d datagrams\n",
		r.elapsed(), sum.Echoed, sum.Longest.Milliseconds(), sum.Opened, sum.Slowest.Milliseconds(), sum.Skipped, flows.Sent)
	r.report.atMost("broken connections, of the busy ones", sum.Broken, 0)
	r.report.atMost("broken connections, of the silent ones", silent, 0)
	r.report.atMost("new connections that failed", sum.Failed, 0)
	r.report.atMost("connections that daemons say are lost", r.lostConns, 0)
	r.report.atMost("events after which sockets were opened again", r.openedAgain, 0)
	if err := r.rowsOfResets(); err != nil {
		return err
	}
	r.rowsOfGaps(flows)
	return r.rowsOfDaemon(ctx)
}

// rowsOfResets adds the RSTs that came to hosts, but for those that a kernel at the other end sent:
// one that has ended a connection answers a copy of its last segment so, which TCP has sent again
// because the first waited for the next daemon.
func (r *run) rowsOfResets() error {
	came := map[bool]int{} // to the client, or to backends
	sent := map[bool]int{}
	for _, h := range r.resets {
		_, n, err := h.count.Counts()
		if err != nil {
			return err
		}
		out, err := resetsSent(h.host)
		if err != nil {
			return err
		}
		client := h.host == r.bed.Client
		came[client] += int(n)
		sent[client] += out - h.before
	}
	fmt.Fprintf(r.Out, "%s RSTs: the client sent %d and got %d, backends sent %d and got %d\n", r.elapsed(), sent[true], came[true], sent[false], came[false])
	r.report.atMost("RSTs at the client that no backend sent", max(0, came[true]-sent[false]), 0)
	r.report.atMost("RSTs at backends that no client sent", max(0, came[false]-sent[true]), 0)
	return nil
}

// resetsSent returns how many RSTs the kernel of a host has sent (Tcp OutRsts of snmp in proc(5)).
func resetsSent(h *netlab.Host) (n int, err error) {
	err = h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if fields[0] != "Tcp:" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			n, err = strconv.Atoi(fields[slices.Index(names, "OutRsts")])
			return err
		}
		return errors.New("/proc/net/snmp has no Tcp")
	})
	return n, err
}

// endTraffic ends the traffic of all services at the same time, sends a last message over each
// connection, and returns how many no longer carried it.
func (r *run) endTraffic(ctx context.Context) (sum loadgen.Sum, silent int, err error) {
	var all sync.WaitGroup
	var mu sync.Mutex // guards the results
	for i, c := range r.clients {
		all.Go(func() {
			s, endErr := c.End(ctx)
			n, echoErr := c.Echo(ctx)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, endErr)
			lost := r.each(r.Connections) - s.Broken - n
			fmt.Fprintf(r.Out, "%s %s: %d busy connections broke, %d silent ones, %d new ones of %d: %v\n", r.elapsed(), testbed.ModePaths[i], s.Broken, lost, s.Failed, s.Failed+s.Opened, echoErr)
			silent += lost
			sum.Join(s)
		})
	}
	all.Wait()
	return sum, silent, err
}

// lostPerDeath is how many packets a process may have in its hands when it dies: a batch for each
// worker.
const lostPerDeath = 64

func (r *run) rowsOfGaps(flows testbed.StreamCounts) {
	allowed := 0
	for _, k := range kinds {
		n := r.Events[k.name]
		if n == 0 {
			continue
		}
		r.report.within("longest gap, "+k.name, r.gaps[k.name], k.gap)
		allowed += n * lostPerDeath * r.Workers
		if k.gap > restartTime { // what has waited for longer than a second is discarded
			allowed += n * int(k.gap/period) * len(r.streams)
		}
	}
	lost := flows.Sent - flows.Answered
	r.report.rows = append(r.report.rows, row{"lost datagrams", fmt.Sprint(allowed), fmt.Sprint(lost), lost <= allowed, true})
	r.report.atMost("ICMP errors to datagrams", flows.Errors, 0)
}

// Growth that is allowed from the first event to the last: the tables get memory as they are used.
const (
	moreKiB   = 32 << 10
	moreFiles = 2
)

// rowsOfDaemon checks the daemon that runs at last, and stops it.
func (r *run) rowsOfDaemon(ctx context.Context) error {
	r.report.atMost("MiB more after the last event than the first", (r.last.RSSKiB-r.first.RSSKiB)>>10, moreKiB>>10)
	r.report.atMost("descriptors more", r.last.Files-r.first.Files, moreFiles)
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	_, err := r.daemon.Quiet(quiet)
	if err != nil {
		fmt.Fprintf(r.Out, "%s %v\n", r.elapsed(), err)
	}
	r.report.add("counters and frames add up", "yes", yes(err), err == nil)
	loaded, err := r.bed.XDP()
	if err != nil {
		return err
	}
	err = r.daemon.Stop()
	r.report.add("the daemon stops", "yes", yes(err), err == nil)
	gone, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	err = r.bed.AwaitNoXDP(gone, loaded)
	r.report.add("no XDP program is left", "yes", yes(err), err == nil)
	return nil
}

func yes(err error) string {
	if err == nil {
		return "yes"
	}
	return "no"
}

// counts returns the sum of all flows of datagrams since the last call; Longest is the longest of
// any.
func (r *run) counts() (sum testbed.StreamCounts) {
	for i, s := range r.streams {
		c := s.Counts()
		r.longest[i] = c.Longest
		sum = plus(sum, c)
	}
	return sum
}

func plus(a, b testbed.StreamCounts) testbed.StreamCounts {
	return testbed.StreamCounts{Sent: a.Sent + b.Sent, Answered: a.Answered + b.Answered, Errors: a.Errors + b.Errors, Longest: max(a.Longest, b.Longest)}
}

// lost returns how many datagrams got no answer, but for those on their way.
func lost(before, after testbed.StreamCounts) int {
	return max(0, after.Sent-after.Answered-(before.Sent-before.Answered))
}

// usage returns what keeper and daemon use.
func (r *run) usage() (testbed.Usage, error) {
	child, err := r.daemon.Child()
	if err != nil {
		return testbed.Usage{}, err
	}
	keeper, err := testbed.UsageOf(r.daemon.Process.PID())
	if err != nil {
		return keeper, err
	}
	u, err := testbed.UsageOf(child.Pid)
	return testbed.Usage{RSSKiB: u.RSSKiB + keeper.RSSKiB, Files: u.Files + keeper.Files}, err
}

// elapsed returns the time since the start of the traffic.
func (r *run) elapsed() string { return fmt.Sprintf("%7.1f", time.Since(r.began).Seconds()) }
