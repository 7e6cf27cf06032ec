package main

import (
	"context"
	"maps"
	"strings"
	"time"

	"sluice/tools/e2e/testbed"
)

// The scenes with backends that go away use this path: with NAT, Sluice carries both directions, so
// an error shows at once.
var scenePath = testbed.Paths[0]

const (
	heldPerBackend = 2
	sceneRequests  = 60
	movesEach      = 20 // requests that a held connection must carry to count as alive
)

// sceneTimeout bounds waits for what takes milliseconds.
const sceneTimeout = 20 * time.Second

// surviveTimeout also allows for segments that TCP sends again, after as long as it has waited.
const surviveTimeout = time.Minute

// drain shows that a drained backend keeps its connections and gets no new ones.
func (d *demo) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	d.step("drain under traffic: %d connections stay open and busy while b2 is drained", heldPerBackend*testbed.Backends)
	held, err := d.hold(ctx)
	if err != nil {
		return err
	}
	defer closeAll(held)
	if err := d.verb(ctx, "drain", 1); err != nil {
		return err
	}
	asked := d.bed.Ask(ctx, scenePath.URL(), sceneRequests)
	d.result("%d new requests: %s; b2 gets none", sceneRequests, &asked)
	d.check(asked.By == [testbed.Backends]int{sceneRequests / 2, 0, sceneRequests / 2} && asked.Answered() == sceneRequests,
		"with b2 drained, %d requests went %s, in the order %v", sceneRequests, &asked, asked.Turns)
	alive := d.alive(ctx, held)
	d.result("all connections that were open are alive: b1 %d, b2 %d, b3 %d", alive["b1"], alive["b2"], alive["b3"])
	for _, name := range []string{"b1", "b2", "b3"} {
		d.check(alive[name] == heldPerBackend, "after the drain %d of %d connections to %s live", alive[name], heldPerBackend, name)
	}
	if err := d.verb(ctx, "weight", 1, "1"); err != nil {
		return err
	}
	asked = d.bed.Ask(ctx, scenePath.URL(), sceneRequests)
	d.result("b2 has its weight back: %s", &asked)
	d.check(asked.By[1] == sceneRequests/testbed.Backends, "with its weight back, b2 got %d of %d requests: %s, in the order %v", asked.By[1], sceneRequests, &asked, asked.Turns)
	return ctx.Err()
}

// kill shows that the death of a backend's process affects its own connections only.
func (d *demo) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	d.step("SIGKILL for b3's server under traffic; no health check is configured, so Sluice keeps sending to b3")
	held, err := d.hold(ctx)
	if err != nil {
		return err
	}
	defer closeAll(held)
	if err := d.bed.Backends[2].Kill(); err != nil {
		return err
	}
	asked := d.bed.Ask(ctx, scenePath.URL(), sceneRequests)
	d.result("%d new requests: %s", sceneRequests, &asked)
	third := sceneRequests / testbed.Backends
	d.check(asked.By == [testbed.Backends]int{third, third, 0} && asked.Refused == third,
		"with b3 dead, %d requests went %s; the third for b3 should be refused, no other; the order is %v", sceneRequests, &asked, asked.Turns)
	alive := d.alive(ctx, held)
	d.result("connections that were open and live: b1 %d, b2 %d, b3 %d", alive["b1"], alive["b2"], alive["b3"])
	d.check(alive["b1"] == heldPerBackend && alive["b2"] == heldPerBackend && alive["b3"] == 0,
		"the connections that live after b3's death: %v", alive)
	return d.bed.Backends[2].Start(ctx)
}

// survive shows that no connection notices the death of Sluice's process.
func (d *demo) survive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, surviveTimeout)
	defer cancel()
	d.step("SIGKILL for sluice itself under traffic: %d busy connections, in all modes and both families", len(testbed.AllPaths))
	resets, err := d.bed.Client.CountRST("eth0")
	if err != nil {
		return err
	}
	var held []*testbed.Held
	defer func() { closeAll(held) }()
	for _, p := range testbed.AllPaths {
		h, err := d.bed.Hold(ctx, p.URL())
		if err != nil {
			return err
		}
		held = append(held, h)
	}
	datagrams, err := d.bed.Stream(ctx, scenePath.UDP(), time.Millisecond)
	if err != nil {
		return err
	}
	before := d.alive(ctx, held)
	child, err := d.daemon.Child()
	if err != nil {
		return err
	}
	mark := d.daemon.Process.Mark()
	if err := child.Kill(); err != nil {
		return err
	}
	if _, err := d.daemon.Process.WaitLineAfter(ctx, mark, "event=ready"); err != nil {
		return err
	}
	status, err := d.daemon.API.Status(ctx)
	if err != nil {
		return err
	}
	if d.check(status.Takeover != nil, "the next process took over nothing") {
		d.result("sluice keep has started it again: it goes on with %d sockets and %d connections of the dead process", status.Takeover.Queues, status.Takeover.Connections)
	}
	after := d.alive(ctx, held)
	d.check(maps.Equal(before, after), "connections that lived before: %v, and after: %v", before, after)
	asked := d.bed.Ask(ctx, scenePath.URL(), sceneRequests)
	d.check(asked.Answered() == sceneRequests, "after it %d requests went %s", sceneRequests, &asked)
	counts := datagrams.End()
	_, n, err := resets.Counts()
	d.check(err == nil && n == 0, "%d RSTs came to the client: %v", n, err)
	d.result("all %d connections carry requests, %d new requests are answered, the client got %d RSTs", len(held), asked.Answered(), n)
	d.result("of %d datagrams, one each millisecond, %d got no answer; the longest pause was %d ms",
		counts.Sent, counts.Sent-counts.Answered, counts.Longest.Milliseconds())
	d.loaded, err = d.bed.XDP()
	return err
}

// hold opens busy connections, the same number to each backend.
func (d *demo) hold(ctx context.Context) (held []*testbed.Held, err error) {
	for range heldPerBackend * testbed.Backends {
		h, err := d.bed.Hold(ctx, scenePath.URL())
		if err != nil {
			closeAll(held)
			return nil, err
		}
		held = append(held, h)
	}
	return held, nil
}

func closeAll(held []*testbed.Held) {
	for _, h := range held {
		h.Close() // its error was checked before
	}
}

// alive counts by backend the connections that still carry requests.
func (d *demo) alive(ctx context.Context, held []*testbed.Held) map[string]int {
	alive := map[string]int{}
	for _, h := range held {
		if h.Moves(ctx, movesEach) == nil {
			alive[h.Backend]++
		}
	}
	return alive
}

// verb runs a command for a backend of the scene's HTTP service.
func (d *demo) verb(ctx context.Context, verb string, backend int, more ...string) error {
	args := append([]string{verb, scenePath.Web().Name, d.bed.Backends[backend].Addr(scenePath.Backend).String()}, more...)
	d.result("sluice %s", strings.Join(args, " "))
	_, err := d.daemon.Verb(ctx, args...)
	return err
}

// account shows the counters of all packets.
func (d *demo) account(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	d.step("sluice stats: every packet was forwarded, answered by Sluice, or dropped under a name; no frame is lost")
	_, err := d.daemon.Quiet(ctx)
	d.check(err == nil, "%v", err)
	report, err := d.daemon.Verb(ctx, "stats")
	if err != nil {
		return err
	}
	for line := range strings.Lines(report) {
		if strings.HasPrefix(line, "packets") || strings.HasPrefix(line, "frames") {
			d.result("%s", strings.TrimSpace(line))
		}
	}
	d.table()
	return nil
}

// stop ends the daemon and checks that nothing is left.
func (d *demo) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	d.step("SIGTERM for sluice: it must end and take its XDP programs with it")
	if err := d.daemon.Stop(); !d.check(err == nil, "sluice ended with: %v; its last words:\n%s", err, d.daemon.Process.Output()) {
		return nil
	}
	err := d.bed.AwaitNoXDP(ctx, d.loaded)
	if d.check(err == nil, "%v", err) {
		d.result("exit status 0, no XDP program attached or loaded")
	}
	return nil
}
