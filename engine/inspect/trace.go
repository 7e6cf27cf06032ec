package inspect

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"sluice/engine/api"
	frames "sluice/engine/filter"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// Bounds on the cost of traces.
const (
	maxTraces  = 8       // at the same time
	traceBytes = 8 << 20 // of frames, per trace and all workers together
	tracePause = 5 * time.Millisecond
	traceSnap  = 192 // bytes of a frame that steps need: the headers of a packet in a tunnel
	minSlots   = 64
	maxSlots   = 4096
)

// Tracer shows the packets of a running balancer as they pass. It is an api.Tracer.
type Tracer struct {
	Workers func() *worker.Set             // called once per trace
	Names   func() (Names, *steer.Decider) // those in force now
	Ending  <-chan struct{}                // closed when the balancer stops
	Stopped error                          // what Trace returns when the balancer stops

	running atomic.Int32
}

// Trace implements api.Tracer.
func (t *Tracer) Trace(ctx context.Context, q api.TraceQuery, emit func(api.TraceEvent) error) (api.TraceEnd, error) {
	filter, err := frames.Compile(q.Filter)
	if err != nil {
		return api.TraceEnd{}, api.BadRequest(err.Error())
	}
	if q, err = q.Checked(); err != nil {
		return api.TraceEnd{}, err
	}
	if t.running.Add(1) > maxTraces {
		t.running.Add(-1)
		return api.TraceEnd{}, fmt.Errorf("%d traces and captures run already: end one", maxTraces)
	}
	defer t.running.Add(-1)
	snap := traceSnap
	if q.Frames {
		snap = min(platform.FrameSize, max(traceSnap, q.Snaplen))
	}
	r := &trace{Tracer: t, workers: t.Workers(), q: q, emit: emit, deadline: time.Now().Add(q.Duration)}
	slots := min(maxSlots, max(minSlots, traceBytes/(2*snap)/len(r.workers.All)))
	for range r.workers.All {
		r.taps = append(r.taps, worker.NewTap(filter, snap, slots))
	}
	defer r.remove()
	silent, err := r.workers.Ask(ctx, func(w *worker.Worker) { w.AddTap(r.taps[w.ID()]) })
	if err != nil {
		return api.TraceEnd{}, err
	}
	if q.Started != nil {
		q.Started()
	}
	end, err := r.follow(ctx)
	end.Unresponsive = silent
	return end, err
}

// trace is one run of Trace: it reads the records of all workers and emits them in the order of
// time.
type trace struct {
	*Tracer
	workers  *worker.Set
	q        api.TraceQuery
	emit     func(api.TraceEvent) error
	taps     []*worker.Tap // by worker
	deadline time.Time
	seen     int
	batch    []arrived
	frame    [platform.FrameSize]byte // scratch
}

// arrived is a record that is to be emitted.
type arrived struct {
	tap    *worker.Tap
	number uint32
}

// remove removes the taps from the workers that still run: from one that does not answer as soon as
// it does.
func (t *trace) remove() {
	remove := func(w *worker.Worker) { w.RemoveTap(t.taps[w.ID()]) }
	silent, _ := t.workers.Ask(context.Background(), remove) // fails when a worker has ended
	for _, number := range silent {
		w := t.workers.All[number]
		go func() { _ = w.Do(context.Background(), func() { remove(w) }) }()
	}
}

// follow emits what arrives until the count is reached, the time is over or the context is done.
func (t *trace) follow(ctx context.Context) (api.TraceEnd, error) {
	tick := time.NewTicker(tracePause)
	defer tick.Stop()
	for {
		enough, err := t.round()
		end := api.TraceEnd{Seen: t.seen, Lost: t.lost()}
		switch {
		case err != nil:
			return end, err
		case enough:
			end.Why = "count reached"
			return end, nil
		case !time.Now().Before(t.deadline):
			end.Why = "time is over"
			return end, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return end, ctx.Err()
		case <-t.workers.Failed():
			return end, t.Stopped
		case <-t.Ending:
			return end, t.Stopped
		}
	}
}

func (t *trace) lost() (n uint64) {
	for _, tap := range t.taps {
		n += tap.Lost()
	}
	return n
}

// round emits all that has arrived. It reports whether the count is reached.
func (t *trace) round() (enough bool, err error) {
	t.batch = t.batch[:0]
	var numbers [256]uint32
	for _, tap := range t.taps {
		for {
			n := tap.Arrived(numbers[:])
			for _, number := range numbers[:n] {
				t.batch = append(t.batch, arrived{tap, number})
			}
			if n < len(numbers) {
				break
			}
		}
	}
	if len(t.batch) == 0 {
		return false, nil
	}
	slices.SortStableFunc(t.batch, func(a, b arrived) int {
		return int(a.tap.Record(a.number).AtNs - b.tap.Record(b.number).AtNs)
	})
	names, steering := t.Names()
	for _, k := range t.batch {
		r := k.tap.Record(k.number)
		if !enough && err == nil {
			err = t.send(&names, steering, r)
			enough = t.q.Count > 0 && t.seen >= t.q.Count
		}
		k.tap.Release(k.number)
	}
	return enough, err
}

// send emits one record.
func (t *trace) send(n *Names, steering *steer.Decider, r *worker.Record) error {
	handedOver := r.Frame.Verdict == pipeline.HandOver
	if handedOver && t.q.Frames {
		return nil // its owner records the same frame with its end
	}
	event := n.event(&r.PacketRecord, r.InLen)
	// Other rules may have been in force, and headers may lie beyond the recorded bytes.
	if steered := steering.Decide(t.whole(r)); steered.Target == steer.Sluice {
		event.Steps = append([]api.Step{steerStep(steered)}, event.Steps...)
	}
	event.Time = worker.Time(r.AtNs)
	event.Lost = t.lost()
	if t.q.Frames {
		event.In, event.Out = r.In[:min(len(r.In), t.q.Snaplen)], r.Out[:min(len(r.Out), t.q.Snaplen)]
	}
	if !handedOver {
		t.seen++
	}
	return t.emit(event)
}

// whole returns a record's frame in its full length, with zeros for the bytes that were not
// recorded.
func (t *trace) whole(r *worker.Record) []byte {
	frame := t.frame[:r.InLen]
	clear(frame[copy(frame, r.In):])
	return frame
}

// event returns a record as the API has it.
func (n *Names) event(p *worker.PacketRecord, inLen int) api.TraceEvent {
	e := api.TraceEvent{
		Worker: p.Worker, Port: n.port(p.InPort), Packet: summary(p.In), Length: inLen,
		Steps: n.steps(p), Text: n.verdict(p), Verdict: verdictNames[p.Frame.Verdict],
	}
	if p.Before.Class == pipeline.ToService || p.Before.Class == pipeline.ErrorToBackend {
		e.Service = n.Services[p.Before.Service].Name
	}
	if p.After.Known {
		e.Service = n.Services[p.After.Conn.Service()].Name
	}
	if backend := backendOf(p); backend != 0 {
		e.Backend = n.backend(backend)
	}
	switch p.Frame.Verdict {
	case pipeline.Drop:
		if e.Reason = p.Frame.Reason.String(); p.Frame.Reason == counter.Limited {
			e.Limit = p.Frame.Limit().String()
		}
	case pipeline.Forward, pipeline.Reply:
		e.OutPort, e.OutPacket, e.OutLength = n.port(p.Frame.Port), summary(p.Out), p.OutLen
	}
	return e
}

// verdictNames are the verdicts in the API.
var verdictNames = map[pipeline.Verdict]string{
	pipeline.Drop: "drop", pipeline.Forward: "forward", pipeline.Reply: "reply", pipeline.HandOver: "hand-over",
	pipeline.ToKernel: "pass", pipeline.Hold: "wait",
}

// The headers of a packet in a tunnel fit into traceSnap.
var _ [traceSnap - (packet.EthernetLen + packet.TagLen + 2*packet.IPv6Len + packet.TCPLen)]struct{}
