package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// runningTrace is a trace and the events that it emits.
type runningTrace struct {
	t      *testing.T
	events chan api.TraceEvent
	ended  chan error
	end    api.TraceEnd
	stop   context.CancelFunc
}

// startTrace starts a trace and waits until it records packets.
func startTrace(t *testing.T, lab *enginetest.Lab, q api.TraceQuery) *runningTrace {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	o := &runningTrace{t: t, events: make(chan api.TraceEvent, 1<<16), ended: make(chan error, 1), stop: stop}
	sees := make(chan struct{})
	q.Started = func() { close(sees) }
	go func() {
		var err error
		o.end, err = lab.Engine.Trace(ctx, q, func(e api.TraceEvent) error {
			e.In, e.Out = append([]byte(nil), e.In...), append([]byte(nil), e.Out...)
			o.events <- e
			return nil
		})
		o.ended <- err
	}()
	select {
	case <-sees:
	case err := <-o.ended:
		t.Fatal("the trace ends before it begins:", err)
	}
	t.Cleanup(stop)
	return o
}

// next returns the next event.
func (o *runningTrace) next() api.TraceEvent {
	o.t.Helper()
	select {
	case e := <-o.events:
		return e
	case <-time.After(20 * time.Second):
		o.t.Fatal("no packet is seen")
	}
	return api.TraceEvent{}
}

// wait returns when the trace has ended.
func (o *runningTrace) wait() error {
	o.t.Helper()
	select {
	case err := <-o.ended:
		return err
	case <-time.After(20 * time.Second):
		o.t.Fatal("the trace does not end")
	}
	return nil
}

// printed returns an event as the command prints it.
func printed(e api.TraceEvent) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", e.Port, e.Packet)
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%s: %s\n", s.Stage, s.Text)
	}
	return b.String() + e.Text
}

// TestTraceGolden: a connection's first packets, word for word.
func TestTraceGolden(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	o := startTrace(t, lab, api.TraceQuery{Count: 4})
	lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:40000", vip4+":80").Flags(syn).Payload(nil).Frame())
	lab.Send(enginetest.Backends, 0, packettest.TCP("10.0.0.11:8080", "192.0.2.7:40000").Flags(syn|ack).Payload(nil).Frame())
	lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.8:40000", vip4+":80").Payload(nil).Frame())
	lab.Send(enginetest.Backends, 0, packettest.TCP("10.0.0.11:8080", "192.0.2.9:40000").Payload(nil).Frame())
	for _, want := range []string{`clients: tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes
steer: to Sluice: 198.51.100.10:80 is a service
service: client to web (tcp 198.51.100.10:80)
worker: 0, the only one
connection: new: SYN_RECV, backend 10.0.0.11:8080 by nat, expires in 1:00
rewrite: tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes -> tcp 192.0.2.7:40000 > 10.0.0.11:8080 [S] 40 bytes
egress: backends, 54 bytes to 02:00:00:00:bb:0b
forwarded to 10.0.0.11:8080 by backends`, `backends: tcp 10.0.0.11:8080 > 192.0.2.7:40000 [S.] 40 bytes
steer: to Sluice: 10.0.0.11:8080 is a nat backend, and 192.0.2.7 is not this host
service: backend of web (tcp 198.51.100.10:80) to its client
worker: 0, the only one
connection: SYN_RECV, backend 10.0.0.11:8080 by nat, expires in 1:00
rewrite: tcp 10.0.0.11:8080 > 192.0.2.7:40000 [S.] 40 bytes -> tcp 198.51.100.10:80 > 192.0.2.7:40000 [S.] 40 bytes
egress: clients, 54 bytes to 02:00:00:00:ff:01
forwarded to the client by clients`, `clients: tcp 192.0.2.8:40000 > 198.51.100.10:80 [.] 40 bytes
steer: to Sluice: 198.51.100.10:80 is a service
service: client to web (tcp 198.51.100.10:80)
worker: 0, the only one
connection: none
answer: tcp 198.51.100.10:80 > 192.0.2.8:40000 [R] 40 bytes
egress: clients, 54 bytes to 02:00:00:00:00:01
answered: tcp 198.51.100.10:80 > 192.0.2.8:40000 [R] 40 bytes: packet belongs to no connection, and only a SYN opens one`,
		`backends: tcp 10.0.0.11:8080 > 192.0.2.9:40000 [.] 40 bytes
steer: to Sluice: 10.0.0.11:8080 is a nat backend, and 192.0.2.9 is not this host
service: none: treated as a backend's reply
worker: 0, the only one
connection: none
answer: tcp 192.0.2.9:40000 > 10.0.0.11:8080 [R] 40 bytes
egress: backends, 54 bytes to 02:00:00:00:00:01
answered: tcp 192.0.2.9:40000 > 10.0.0.11:8080 [R] 40 bytes: packet belongs to no connection`} {
		if diff := cmp.Diff(want, printed(o.next())); diff != "" {
			t.Error(diff)
		}
	}
	if err := o.wait(); err != nil || !cmp.Equal(o.end, api.TraceEnd{Seen: 4, Why: "count reached"}) {
		t.Error(err, o.end)
	}
}

// TestTraceEveryPacketIsSeenOnce: with several workers, all received packets are seen, with their
// frames before and after, while other traces see a part of them.
func TestTraceEveryPacketIsSeenOnce(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 3, 3)
	lab.Start(3, config(nat3()))
	all := startTrace(t, lab, api.TraceQuery{Frames: true})
	// known only after the rewrite
	some := startTrace(t, lab, api.TraceQuery{Filter: "host 10.0.0.12"})
	none := startTrace(t, lab, api.TraceQuery{Filter: "udp"})
	const packets = 300
	var sent []enginetest.Sent
	for n := range packets {
		sent = append(sent, lab.Send(enginetest.Clients, n%3, opening(n).Frame())...)
	}
	left := map[string]int{}
	for _, s := range sent {
		left[string(s.Frame)]++
	}
	to12 := 0
	for range packets {
		e := all.next()
		if e.Verdict != "forward" || e.Service != "web" || left[string(e.Out)] == 0 || len(e.In) != e.Length {
			t.Fatalf("seen:\n%s\n%+v", printed(e), e)
		}
		left[string(e.Out)]--
		if strings.HasPrefix(e.Backend, "10.0.0.12:") {
			to12++
		}
	}
	for range to12 {
		if e := some.next(); !strings.HasPrefix(e.Backend, "10.0.0.12:") {
			t.Errorf("the filter let pass:\n%s", printed(e))
		}
	}
	for _, o := range []*runningTrace{all, some, none} {
		o.stop()
		if err := o.wait(); err == nil || len(o.events) != 0 || o.end.Lost != 0 {
			t.Errorf("ended with %v, %d more seen, %+v", err, len(o.events), o.end)
		}
	}
	lab.Send(enginetest.Clients, 0, opening(packets).Frame())
}

// TestTraceShowsLosses: a packet that does not fit the egress ring is shown as dropped.
func TestTraceShowsLosses(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.RingSize = 4
	lab.Start(1, config(nat3()))
	lab.Stall(enginetest.Backends, true)
	o := startTrace(t, lab, api.TraceQuery{})
	for n := range 6 {
		lab.Send(enginetest.Clients, 0, opening(n).Frame())
	}
	full := 0
	for range 6 {
		if e := o.next(); e.Reason == "tx_full" && e.Verdict == "drop" && strings.HasPrefix(e.Text, "dropped: tx_full") {
			full++
		}
	}
	if full != 2 {
		t.Errorf("%d packets are shown as lost for want of room, want 2", full)
	}
}

// TestTraceCountsWhatItCannotShow: a slow reader of a trace loses packets, the engine does not; the
// trace counts them.
func TestTraceCountsWhatItCannotShow(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	hold, seen := make(chan struct{}), 0
	started, ended := make(chan struct{}), make(chan api.TraceEnd, 1)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var last uint64
	go func() {
		end, _ := lab.Engine.Trace(ctx, api.TraceQuery{Started: func() { close(started) }, Frames: true}, func(e api.TraceEvent) error {
			if seen++; seen == 1 {
				<-hold
			}
			last = e.Lost
			return nil
		})
		ended <- end
	}()
	<-started
	const packets = 3000
	for n := range packets {
		lab.Inject(enginetest.Clients, 0, opening(n).Frame())
	}
	lab.Quiet()
	lab.Collect()
	close(hold)
	lab.Await("the rest is shown", func() bool { stop(); return true })
	end := <-ended
	if end.Lost == 0 || uint64(end.Seen)+end.Lost > packets || seen != end.Seen || last > end.Lost {
		t.Errorf("%+v of %d packets, %d seen", end, packets, seen)
	}
}

// TestTraceBounds: queries that are refused, and traces that end by themselves.
func TestTraceBounds(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	discard := func(api.TraceEvent) error { return nil }
	for _, q := range []api.TraceQuery{{Filter: "nonsense"}, {Count: -1}, {Duration: 2 * api.MaxTraceTime}, {Snaplen: -1}} {
		if _, err := lab.Engine.Trace(context.Background(), q, discard); err == nil {
			t.Errorf("%+v is taken", q)
		}
	}
	if end, err := lab.Engine.Trace(context.Background(), api.TraceQuery{Duration: time.Millisecond}, discard); err != nil || end.Why != "time is over" {
		t.Error(end, err)
	}
	for range 8 {
		startTrace(t, lab, api.TraceQuery{})
	}
	if _, err := lab.Engine.Trace(context.Background(), api.TraceQuery{}, discard); err == nil || !strings.Contains(err.Error(), "8 traces") {
		t.Error("a ninth at once:", err)
	}
}

// TestTraceEndsWithTheEngine: Close ends a trace.
func TestTraceEndsWithTheEngine(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	o := startTrace(t, lab, api.TraceQuery{})
	lab.Close()
	if err := o.wait(); err == nil {
		t.Error("the trace ended without an error")
	}
}

// TestTraceNamesTheLimit checks that the trace of a new connection beyond a limit says which.
func TestTraceNamesTheLimit(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 1)
	lab.Start(2, config(svc{extra: "[service.limits]\nsource_connections = 1\n", backends: []string{"10.0.0.11:8080"}})+
		config(svc{name: "full", port: "81", backends: []string{"10.0.0.12:8080"}})+"max_connections = 1\n")
	for port, limit := range map[string]string{"80": "source_connections", "81": "max_connections"} {
		open := func(n int) {
			lab.Arrive(enginetest.Clients, packettest.TCP(fmt.Sprint("192.0.2.7:", 2000+n), vip4+":"+port).Flags(syn).Frame())
			lab.Quiet()
		}
		open(1)
		o := startTrace(t, lab, api.TraceQuery{})
		open(2)
		e := o.next()
		for e.Verdict == "hand-over" {
			e = o.next()
		}
		if e.Reason != "limited" || e.Limit != limit || !strings.HasSuffix(e.Text, "is beyond "+limit) {
			t.Errorf("port %s: %q, limit %q, %s", port, e.Reason, e.Limit, e.Text)
		}
		o.stop()
	}
}
