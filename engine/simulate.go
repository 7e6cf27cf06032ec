package engine

import (
	"math"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// Process lets a frame arrive at a time, counted from any beginning; time never goes back here,
// whatever the frames say. It comes by the port that leads to its sender. The event has the frame
// before and after.
func (s *Offline) Process(frame []byte, at time.Duration) api.TraceEvent {
	e, t := s.engine, s.engine.tables.Load()
	s.advance(t, at)
	names := e.names()
	if len(frame) > platform.FrameSize-probeRoom {
		return api.TraceEvent{Packet: summary(frame), Length: len(frame), Port: names.port(0), Verdict: "pass",
			Text: "left out: longer than any frame that a port receives", In: frame}
	}
	f := frameOf(frame)
	before := s.proc.Observe(f, t, s.nowMs)
	if hop, ok := t.Hops.NextHop(before.Meta.Src); ok && before.Reason == counter.None {
		f.Port = hop.Port
	}
	p := &worker.PacketRecord{Before: before, After: before, InPort: f.Port, In: frame, Workers: 1, NowMs: s.nowMs}
	steered := e.steering().Decide(frame)
	if steered.Target != steer.Sluice {
		return api.TraceEvent{Packet: summary(frame), Length: len(frame), Port: names.port(f.Port), Verdict: "pass",
			Steps: []api.Step{steerStep(steered)}, Text: passedText(steered), In: frame}
	}
	s.batch.Frames[0] = f
	s.proc.Process(s.batch, 1, t, s.nowMs)
	s.proc.NeighbourRequests.Flush(func(packet.Addr) {}) // there is nobody to ask
	s.proc.Refresh(&p.After, s.nowMs)
	p.Frame = s.batch.Frames[0]
	if g := &p.Frame; worker.Sent(g) {
		p.Out, p.OutLen = g.Mem[g.Start:g.End], g.End-g.Start
	}
	event := names.event(p, len(frame))
	event.Steps = append([]api.Step{steerStep(steered)}, event.Steps...)
	event.In, event.Out = frame, p.Out
	return event
}

// advance lets time pass, and what is over with it.
func (s *Offline) advance(t *pipeline.Tables, at time.Duration) {
	now := s.beganMs + uint32(at/time.Millisecond)
	if int32(now-s.nowMs) <= 0 {
		return
	}
	s.proc.Housekeep(t, now, now-s.nowMs, math.MaxInt)
	s.nowMs = now
}
