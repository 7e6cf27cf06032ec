package inspect

import (
	"context"
	"math"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// Offline is a balancer without a machine: the tables of a configuration and the pipeline of one
// worker. Its time is the time of the packets that it is given. One goroutine may use it.
type Offline struct {
	Snapshot
	proc  *pipeline.Processor
	batch *pipeline.Batch
	seen  *steer.Memory // what the XDP program would remember

	beganMs, nowMs uint32 // ticks of the time 0, and of now
}

// MaxOfflineConnections limits the connections that a simulation has space for. The memory is taken
// as connections come.
const MaxOfflineConnections = 1 << 22

// NewOffline returns a balancer with one worker. The functions of the Snapshot are not used.
func NewOffline(s Snapshot) *Offline {
	connections := min(s.Config.Engine.Connections, MaxOfflineConnections)
	o := &Offline{Snapshot: s, batch: new(pipeline.Batch), seen: steer.NewMemory(), beganMs: 1, nowMs: 1}
	o.Workers = 1
	o.Seed = &flow.Seed{A: 0x243f6a8885a308d3, B: 0x13198a2e03707344} // any: there is one worker
	o.Loads = counter.NewLoads(1, pipeline.MaxBackends)
	o.proc = pipeline.New(pipeline.Options{
		Workers: 1, Capacity: counter.NewCapacity(1, connections), Seed: o.Seed, Loads: o.Loads, Turns: counter.NewTurns(1, pipeline.MaxServices),
		Mem4: make([]byte, pipeline.TableBytes(4, 1, connections)),
		Mem6: make([]byte, pipeline.TableBytes(6, 1, connections)),

		AdoptPerSecond: s.Config.Engine.AdoptPerSecond,
	})
	o.Now = func() uint32 { return o.nowMs }
	o.OnWorker = func(_ context.Context, _ int, f func(*pipeline.Processor)) error {
		f(o.proc)
		return nil
	}
	return o
}

// Explain returns what happens to a packet that the balancer receives now.
func (o *Offline) Explain(q api.Tuple) (api.Explanation, error) {
	return o.Snapshot.Explain(context.Background(), q)
}

// Process receives a frame at a time that counts from the first frame; a time before that of an
// earlier frame counts as that frame's. The ingress port is the one that leads to the sender. The
// event has the frame before and after.
func (o *Offline) Process(frame []byte, at time.Duration) api.TraceEvent {
	o.advance(at)
	passed := api.TraceEvent{Packet: summary(frame), Length: len(frame), Verdict: "pass", In: frame}
	if len(frame) > platform.FrameSize-headroom {
		passed.Port, passed.Text = o.port(0), "not processed: longer than any frame that a port receives"
		return passed
	}
	f := frameOf(frame)
	before := o.proc.Observe(f, o.Tables, o.nowMs)
	sender := before.Meta.Src
	if before.Meta.ICMPError { // it comes from where the quoted packet was going
		sender = before.Meta.Dst
	}
	if hop, ok := o.Tables.Hops.NextHop(sender); ok && before.Reason == counter.None {
		f.Port = hop.Port
	}
	steered := o.Steering.DecideNext(frame, o.seen)
	if steered.Target != steer.Sluice {
		passed.Port, passed.Steps, passed.Text = o.port(f.Port), []api.Step{steerStep(steered)}, passedText(steered)
		return passed
	}
	p := &worker.PacketRecord{Before: before, After: before, InPort: f.Port, In: frame, Workers: 1, NowMs: o.nowMs}
	o.batch.Frames[0] = f
	o.proc.Process(o.batch, 1, o.Tables, o.nowMs)
	o.proc.NeighbourRequests.Flush(func(packet.Addr) {}) // no kernel resolves them
	o.proc.Refresh(&p.After, o.nowMs)
	p.Frame = o.batch.Frames[0]
	if g := &p.Frame; worker.Sent(g) {
		p.Out, p.OutLen = g.Mem[g.Start:g.End], g.End-g.Start
	}
	event := o.event(p, len(frame))
	event.Steps = append([]api.Step{steerStep(steered)}, event.Steps...)
	event.In, event.Out = frame, p.Out
	return event
}

// advance moves the time forward and removes the connections that expire meanwhile.
func (o *Offline) advance(at time.Duration) {
	now := o.beganMs + uint32(at/time.Millisecond)
	if int32(now-o.nowMs) <= 0 {
		return
	}
	o.seen.Advance(time.Duration(now-o.nowMs) * time.Millisecond)
	o.proc.Housekeep(o.Tables, now, now-o.nowMs, math.MaxInt)
	o.nowMs = now
}
