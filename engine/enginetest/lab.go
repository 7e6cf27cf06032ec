package enginetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/pipeline/flow"
)

// waitLimit is the longest time that a test waits: it only ends tests that failed.
const waitLimit = 20 * time.Second

// numbers is more than any test configures services or backends.
const numbers = 4096

// Lab is an engine on memory, with the test's access to its ports. One goroutine of the test uses
// it, except where a method says otherwise.
type Lab struct {
	*Platform
	Engine *engine.Engine
	// To be set before Start:
	Busy bool // workers never sleep
	// StuckAfter is [engine] stuck_after: so long that a slow machine is not taken for a worker
	// that hangs. It may be changed before the engine starts.
	StuckAfter string
	// StateDir: directory of data that remains after the engine; "": none.
	StateDir string
	File     string       // path of the configuration; "": in memory
	Log      *slog.Logger // the engine's Options.Logger
	// The engine's Options.Probe; any goroutine may call it.
	Probe func(context.Context, health.Check) error

	t       testing.TB
	workers int
	text    string    // of the configuration that Reload reads
	arrived uint64    // frames injected
	left    uint64    // frames collected
	over    bool      // the engine is closed
	begun   api.Stats // of former processes
}

// Sent is a frame that the engine sent.
type Sent struct {
	Port, Queue int
	Frame       []byte
}

// New returns a lab with one or two ports, of so many queues each.
func New(t testing.TB, queues ...int) *Lab {
	t.Helper()
	if len(queues) == 0 || len(queues) > 2 {
		t.Fatalf("a lab has one or two ports, not %d", len(queues))
	}
	return &Lab{Platform: newPlatform(queues), t: t, StuckAfter: "5m"}
}

// Start starts an engine of so many workers with the services in the configuration's text; the
// sections for engine and ports are the lab's. At the end of the test the engine is closed and
// everything is checked.
func (l *Lab) Start(workers int, services string) {
	l.t.Helper()
	if err := l.TryStart(workers, services); err != nil {
		l.t.Fatalf("engine does not start: %v", err)
	}
}

// TryStart is Start for an engine that may fail to start.
func (l *Lab) TryStart(workers int, services string) error {
	l.t.Helper()
	l.workers = workers
	if services != "" || l.File == "" { // else the File is used unchanged
		l.Write(services)
	}
	cfg, _, err := l.Load()
	if err != nil {
		l.t.Fatal(err)
	}
	inherits := l.Former() != nil
	l.Engine, err = engine.Start(context.Background(), cfg, engine.Options{
		Load: l.Load, Version: "test", Platform: l.Platform, File: l.File, Parse: l.parse, Logger: l.Log, Probe: l.Probe,
		Numbers: numbers,
	})
	if err == nil {
		l.t.Cleanup(l.finish)
		if inherits {
			l.begun = l.Stats()
		}
	}
	return err
}

// Write writes the configuration with other services. It does not inform the engine.
func (l *Lab) Write(services string) {
	l.t.Helper()
	l.text = services
	if l.File != "" {
		if err := os.WriteFile(l.File, []byte(l.Text(services)), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
}

// Load parses the present configuration, as the engine's Options.Load.
func (l *Lab) Load() (*conf.Config, []conf.Problem, error) {
	if l.File != "" {
		return conf.Load(l.File, nil)
	}
	return l.parse("test.toml", []byte(l.Text(l.text)))
}

func (l *Lab) parse(name string, text []byte) (*conf.Config, []conf.Problem, error) {
	return conf.Parse(name, text, nil)
}

// Text returns a whole configuration with those services.
func (l *Lab) Text(services string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[engine]\nconnections = %d\ncores = [", 8192*l.workers)
	for i := range l.workers {
		fmt.Fprintf(&b, "%d, ", i)
	}
	b.WriteString("]\n")
	fmt.Fprintf(&b, "stuck_after = %q\n", l.StuckAfter)
	if l.Busy {
		b.WriteString("poll = \"busy\"\n")
	}
	fmt.Fprintf(&b, "state_dir = %q\n", l.StateDir)
	for _, p := range newSurroundings(len(l.queues)).Ports {
		fmt.Fprintf(&b, "[[port]]\nname = %q\n", p.Name)
	}
	b.WriteString(services)
	return b.String()
}

// Reload makes the engine read another configuration, however much that removes.
func (l *Lab) Reload(services string) (api.ReloadResult, error) {
	return l.ReloadAs(services, api.ReloadOptions{Force: true})
}

// ReloadAs is Reload with options.
func (l *Lab) ReloadAs(services string, o api.ReloadOptions) (api.ReloadResult, error) {
	l.Write(services)
	return l.Engine.Reload(context.Background(), o)
}

// finish ends the test: all frames must be accounted for, before and after the engine is closed.
func (l *Lab) finish() {
	if !l.t.Failed() && !l.over {
		for port := range l.queues {
			l.Stall(port, false)
		}
		l.Quiet()
	}
	l.Close()
	for _, breach := range l.ledger.breaches() {
		l.t.Errorf("frames: %s", breach)
	}
}

// Close closes the engine before the end of the test.
func (l *Lab) Close() {
	l.t.Helper()
	l.over = true
	if err := l.Engine.Close(); err != nil {
		l.t.Errorf("close: %v", err)
	}
}

// Abandon closes the engine while a worker hangs, and returns the error of its Close.
func (l *Lab) Abandon() error {
	l.over = true
	return l.Engine.Close()
}

// Crashed waits until the engine has failed and returns the error of its Close.
func (l *Lab) Crashed() error {
	l.t.Helper()
	l.over = true
	select {
	case <-l.Engine.Done():
	case <-time.After(waitLimit):
		l.t.Fatal("the engine has not failed")
	}
	return l.Engine.Close()
}

// Inject puts a frame into a queue, and waits for space if necessary.
func (l *Lab) Inject(port, queue int, frame []byte) {
	l.t.Helper()
	l.await(fmt.Sprintf("space for a frame on port %d queue %d", port, queue), func() bool { return l.Offer(port, queue, frame) })
}

// Offer puts a frame into a queue and reports whether it was accepted: not if the engine left no
// chunk for it, or does not read the RX ring.
func (l *Lab) Offer(port, queue int, frame []byte) bool {
	l.t.Helper()
	accepted, err := l.queue(port, queue).arrive(frame)
	if err != nil {
		l.t.Fatal(err)
	}
	if accepted {
		l.arrived++
	}
	return accepted
}

// Arrive puts a frame into the queue that a NIC would choose: by a hash of its addresses and ports,
// that of RSS if it is set. Frames of a flow use one queue; their replies may use another.
func (l *Lab) Arrive(port int, frame []byte) {
	l.t.Helper()
	from, to := 26, 38
	if len(frame) > 13 && frame[12] == 0x86 && frame[13] == 0xdd {
		from, to = 22, 58
	}
	ends := frame[min(from, len(frame)):min(to, len(frame))]
	if l.RSS != nil {
		hash := flow.Toeplitz(l.RSS.Key, ends)
		l.Inject(port, int(l.RSS.Queues[hash%uint32(len(l.RSS.Queues))]), frame)
		return
	}
	h := fnv.New32a()
	h.Write(ends)
	l.Inject(port, int(h.Sum32()>>8)%len(l.ports[port]), frame)
}

// AllReceived reports whether the engine has read all frames from the queue's RX ring.
func (l *Lab) AllReceived(port, queue int) bool { return l.queue(port, queue).stats().Rx == 0 }

// Used reports whether the engine uses the port: all its queues have chunks for frames.
func (l *Lab) Used(port int) bool {
	for number := range l.queues[port] {
		if l.queue(port, number).stats().Fill == 0 {
			return false
		}
	}
	return true
}

// Send injects frames one after the other, waits until the engine has processed them, and returns
// what it sent.
func (l *Lab) Send(port, queue int, frames ...[]byte) []Sent {
	l.t.Helper()
	for _, frame := range frames {
		l.Inject(port, queue, frame)
	}
	l.Quiet()
	return l.Collect()
}

// Collect returns what was sent since the last call, port by port and queue by queue.
func (l *Lab) Collect() (all []Sent) {
	l.every(func(port, number int, q *queue) {
		for _, frame := range q.collect() {
			all = append(all, Sent{port, number, frame})
		}
	})
	l.left += uint64(len(all))
	return all
}

// Stall stops or resumes the sending of a port: frames stay on its TX rings.
func (l *Lab) Stall(port int, stalled bool) {
	for number := range l.queues[port] {
		l.queue(port, number).set(stalled, nil)
	}
}

// FailKicks makes every kick of a port fail with err, so that nothing is sent; nil ends that.
func (l *Lab) FailKicks(port int, err error) {
	for number := range l.queues[port] {
		l.queue(port, number).set(false, err)
	}
}

// Freeze stops the worker that owns the queue in the middle of its loop, until thaw is called.
func (l *Lab) Freeze(port, queue int) (thaw func()) {
	l.t.Helper()
	frozen, thawed := make(chan struct{}), make(chan struct{})
	l.queue(port, queue).atNextTurn(func() {
		close(frozen)
		<-thawed
	})
	select {
	case <-frozen:
	case <-time.After(waitLimit):
		l.t.Fatalf("the worker of port %d queue %d does not reach its next loop iteration", port, queue)
	}
	l.queue(port, queue).settle()
	return func() { close(thawed) }
}

// Panic makes the worker that owns the queue panic.
func (l *Lab) Panic(port, queue int, message string) {
	l.queue(port, queue).atNextTurn(func() { panic(message) })
}

// Stats returns the engine's Stats, of all workers: it waits for those that do not answer yet.
func (l *Lab) Stats() api.Stats {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	for {
		s, err := l.Engine.Stats(ctx)
		if err == nil {
			return s
		}
		if api.Answered(err) != nil || ctx.Err() != nil {
			l.t.Fatalf("stats: %v", err)
		}
	}
}

// Quiet waits until the engine has processed every injected frame, and checks that all are
// accounted for: as packets in the counters, as chunks in the ledger.
func (l *Lab) Quiet() {
	l.t.Helper()
	var why string
	l.awaitOr(func() string { return why }, func() bool {
		why = l.restless(l.Stats())
		return why == ""
	})
}

// restless returns what is not yet at rest, or "".
func (l *Lab) restless(s api.Stats) string {
	was := &l.begun
	sent := l.left + l.onWire() + was.Forwarded + was.Replied + was.Originated
	switch f := s.Frames; {
	case s.Rx-was.Rx != l.arrived:
		return fmt.Sprintf("%d frames were injected, %d received", l.arrived, s.Rx-was.Rx)
	case s.Rx != s.Accounted():
		return fmt.Sprintf("received %d, but forwarded %d + replied %d + to the kernel %d + waiting %d + dropped %d + lost in a crash %d", s.Rx, s.Forwarded, s.Replied, s.ToKernel, s.Waiting, s.Dropped(), s.LostInCrash)
	case s.ToKernel-was.ToKernel != l.kernel.written()+s.ToKernelFailed:
		return fmt.Sprintf("%d packets went to the kernel, which has %d and lost %d", s.ToKernel, l.kernel.written(), s.ToKernelFailed)
	case f.InFlight != 0 || f.Rx != 0:
		return fmt.Sprintf("frames are in flight: %+v", f)
	case f.Free != l.ledger.count(engineOwns):
		return fmt.Sprintf("the engine has %d free frames, but owns %d: %+v", f.Free, l.ledger.count(engineOwns), f)
	case l.queued() < f.Tx:
		return fmt.Sprintf("%d frames are still to be sent", f.Tx)
	case sent+f.Tx != s.Forwarded+s.Replied+s.Originated:
		return fmt.Sprintf("forwarded %d + replied %d + originated %d, but sent %d with %d to send", s.Forwarded, s.Replied, s.Originated, sent, f.Tx)
	}
	return ""
}

// queued returns how many frames are on the TX rings of ports that do not send.
func (l *Lab) queued() (n uint64) {
	l.every(func(_, _ int, q *queue) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.stalled || q.kickErr != nil {
			n += uint64(len(q.tx))
		}
	})
	return n
}

// onWire returns how many frames were sent and not collected, or lost with their port.
func (l *Lab) onWire() (n uint64) {
	l.mu.Lock()
	n = l.unsent
	l.mu.Unlock()
	l.every(func(_, _ int, q *queue) {
		q.mu.Lock()
		defer q.mu.Unlock()
		n += uint64(len(q.sent))
	})
	return n
}

// Await waits for a condition that the engine fulfils sooner or later.
func (l *Lab) Await(what string, done func() bool) {
	l.t.Helper()
	l.await(what, done)
}

func (l *Lab) await(what string, done func() bool) {
	l.t.Helper()
	l.awaitOr(func() string { return what }, done)
}

func (l *Lab) awaitOr(why func() string, done func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(waitLimit); !done(); time.Sleep(100 * time.Microsecond) {
		select {
		case <-l.Engine.Done():
			l.t.Fatalf("the engine has failed: %v", l.Engine.Close())
		default:
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("timed out waiting for: %s", why())
		}
	}
}
