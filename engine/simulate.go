package engine

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
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
	if !s.steered(&before, frame) {
		return api.TraceEvent{Packet: summary(frame), Length: len(frame), Port: names.port(f.Port), Verdict: "pass",
			Text: "left to the kernel: no packet of Sluice's", In: frame}
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

// steered tells whether the steering program would give the frame to us.
func (s *Offline) steered(sight *pipeline.Observation, frame []byte) bool {
	r, m := &s.engine.steered, &sight.Meta
	protocol := service.Protocol(m.Proto)
	src, dst := netip.AddrPortFrom(m.Src.Netip(), m.SrcPort), netip.AddrPortFrom(m.Dst.Netip(), m.DstPort)
	switch sight.Class {
	case pipeline.ToService, pipeline.ErrorToBackend:
		return true
	case pipeline.FromBackend:
		return covers(r.Replies, protocol, src) && !slices.Contains(r.Locals, dst.Addr()) || covers(r.Pools, protocol, dst)
	case pipeline.ErrorToClient:
		return covers(r.Replies, protocol, dst) || covers(r.Pools, protocol, src)
	}
	return s.fragment(frame)
}

// fragment tells of a frame that can't be parsed whether it concerns an address of a service or
// backend all the same.
func (s *Offline) fragment(frame []byte) bool {
	if len(frame) < packet.EthernetLen {
		return false
	}
	at := packet.EthernetLen
	if kind := frame[12]; kind == 0x81 || kind == 0x88 {
		at = min(at+packet.TagLen, len(frame))
	}
	ip, ok := readIP(frame[at:])
	if !ok || ip.proto != packet.TCP && ip.proto != packet.UDP && ip.proto != 44 {
		return false
	}
	r := &s.engine.steered
	of := func(keys []service.Key, a netip.Addr) bool {
		return slices.ContainsFunc(keys, func(k service.Key) bool { return k.Address == a })
	}
	return of(r.Services, ip.dst) || of(r.Pools, ip.dst) || of(r.Replies, ip.src) && !slices.Contains(r.Locals, ip.dst)
}
