package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/engine/api"
	frames "sluice/engine/filter"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/packet"
)

// Bounds on what looking on may cost.
const (
	maxTraces  = 8       // at the same time
	traceBytes = 8 << 20 // of frames, per trace and all workers together
	tracePause = 5 * time.Millisecond
	traceSnap  = 192 // bytes of a frame that steps are told from: headers of a packet in a tunnel
	minSlots   = 64
	maxSlots   = 4096
)

// Trace implements api.Tracer.
func (e *Engine) Trace(ctx context.Context, q api.TraceQuery, emit func(api.TraceEvent) error) (api.TraceEnd, error) {
	filter, err := frames.Compile(q.Filter)
	if err != nil {
		return api.TraceEnd{}, api.BadRequest(err.Error())
	}
	if q, err = q.Checked(); err != nil {
		return api.TraceEnd{}, err
	}
	if e.traces.Add(1) > maxTraces {
		e.traces.Add(-1)
		return api.TraceEnd{}, fmt.Errorf("%d traces and captures run already: end one", maxTraces)
	}
	defer e.traces.Add(-1)
	snap := traceSnap
	if q.Frames {
		snap = min(platform.FrameSize, max(traceSnap, q.Snaplen))
	}
	t := &tracer{engine: e, q: q, emit: emit, deadline: time.Now().Add(q.Duration)}
	slots := min(maxSlots, max(minSlots, traceBytes/(2*snap)/len(e.workers.All)))
	for range e.workers.All {
		t.taps = append(t.taps, worker.NewTap(filter, snap, slots))
	}
	defer t.remove()
	if err := e.workers.OnAll(ctx, func(w *worker.Worker) { w.AddTap(t.taps[w.ID()]) }); err != nil {
		return api.TraceEnd{}, err
	}
	if q.Started != nil {
		q.Started()
	}
	return t.follow(ctx)
}

// tracer is one onlooker: it takes the records of all workers and tells them in the order of time.
type tracer struct {
	engine   *Engine
	q        api.TraceQuery
	emit     func(api.TraceEvent) error
	taps     []*worker.Tap // by worker
	deadline time.Time
	seen     int
	batch    []taken
	frame    [platform.FrameSize]byte // scratch
}

// taken is a record that waits to be told.
type taken struct {
	tap    *worker.Tap
	number uint32
}

// remove takes the taps off the workers, those that still run.
func (t *tracer) remove() {
	for _, w := range t.engine.workers.All {
		_ = w.Do(context.Background(), func() { w.RemoveTap(t.taps[w.ID()]) }) // fails when the worker has ended
	}
}

// follow tells what comes until it is enough, time is over or nobody listens.
func (t *tracer) follow(ctx context.Context) (api.TraceEnd, error) {
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
		case <-t.engine.Done():
			return end, errClosed
		case <-t.engine.ending:
			return end, errClosed
		}
	}
}

func (t *tracer) lost() (n uint64) {
	for _, tap := range t.taps {
		n += tap.Lost()
	}
	return n
}

// round tells all that has come. It reports whether that was enough.
func (t *tracer) round() (enough bool, err error) {
	t.batch = t.batch[:0]
	var numbers [256]uint32
	for _, tap := range t.taps {
		for {
			n := tap.Arrived(numbers[:])
			for _, number := range numbers[:n] {
				t.batch = append(t.batch, taken{tap, number})
			}
			if n < len(numbers) {
				break
			}
		}
	}
	if len(t.batch) == 0 {
		return false, nil
	}
	slices.SortStableFunc(t.batch, func(a, b taken) int {
		return int(a.tap.Record(a.number).AtNs - b.tap.Record(b.number).AtNs)
	})
	t.engine.mu.Lock()
	names, steering := t.engine.names(), t.engine.steering()
	t.engine.mu.Unlock()
	for _, k := range t.batch {
		r := k.tap.Record(k.number)
		if !enough && err == nil {
			err = t.tell(&names, steering, r)
			enough = t.q.Count > 0 && t.seen >= t.q.Count
		}
		k.tap.Release(k.number)
	}
	return enough, err
}

func (t *tracer) tell(n *names, steering *steer.Decider, r *worker.Record) error {
	handedOver := r.Frame.Verdict == pipeline.HandOver
	if handedOver && t.q.Frames {
		return nil // its owner shows it, with what becomes of it
	}
	event := n.event(&r.PacketRecord, r.InLen)
	// Earlier rules may have been in force, and headers may be beyond what is kept of the frame.
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

// whole returns a record's frame in its full length, with zeros for the bytes that were not kept.
func (t *tracer) whole(r *worker.Record) []byte {
	frame := t.frame[:r.InLen]
	clear(frame[copy(frame, r.In):])
	return frame
}

// event is a passage as onlookers get it.
func (n *names) event(p *worker.PacketRecord, inLen int) api.TraceEvent {
	e := api.TraceEvent{
		Worker: p.Worker, Port: n.port(p.InPort), Packet: summary(p.In), Length: inLen,
		Steps: n.steps(p), Text: n.verdict(p), Verdict: verdictNames[p.Frame.Verdict],
	}
	if p.Before.Class == pipeline.ToService || p.Before.Class == pipeline.ErrorToBackend {
		e.Service = n.services[p.Before.Service].Name
	}
	if p.After.Known {
		e.Service = n.services[p.After.Conn.Service()].Name
		e.Backend = n.backend(p.After.Conn.Backend)
	}
	switch p.Frame.Verdict {
	case pipeline.Drop:
		e.Reason = p.Frame.Reason.String()
	case pipeline.Forward, pipeline.Reply:
		e.OutPort, e.OutPacket, e.OutLength = n.port(p.Frame.Port), summary(p.Out), p.OutLen
	}
	return e
}

// verdictNames are what scripts see.
var verdictNames = map[pipeline.Verdict]string{
	pipeline.Drop: "drop", pipeline.Forward: "forward", pipeline.Reply: "reply", pipeline.HandOver: "hand-over",
}

// The headers of a packet in a tunnel fit what is kept of a frame.
var _ [traceSnap - (packet.EthernetLen + packet.TagLen + 2*packet.IPv6Len + packet.TCPLen)]struct{}
