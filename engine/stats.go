package engine

import (
	"context"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/pipeline/counter"
)

// Stats implements api.Control.
func (e *Engine) Stats(ctx context.Context) (api.Stats, error) {
	out := api.Stats{
		Version: e.opts.Version, UptimeS: time.Since(e.started).Seconds(),
		Drops: make(map[string]uint64),
	}
	e.mu.Lock()
	out.TablesPublished = e.published
	out.Tables.Capacity = uint64(e.cfg.Engine.Connections)
	links := e.surroundings.Ports
	for i, p := range e.hardware.Ports {
		out.Ports = append(out.Ports, api.PortStats{Name: p.Name, IO: p.IO, Queues: make([]api.QueueStats, len(p.Queues))})
		if i < len(links) {
			out.Ports[i].Up, out.Ports[i].MTU = links[i].Up, int(links[i].MTU)
		}
	}
	e.mu.Unlock()
	var sum counter.Packets
	err := e.onWorkers(ctx, func(w *Worker) {
		sum.Add(&w.proc.Packets)
		out.Workers = append(out.Workers, w.report(&out, e.platform))
	})
	if err != nil {
		return api.Stats{}, err
	}
	out.Rx, out.Forwarded, out.Replied, out.Originated = sum.Rx, sum.Forwarded, sum.Replied, sum.Originated
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		out.Drops[r.String()] = sum.Drops[r]
	}
	f := &out.Frames
	f.Total = uint64(len(e.hardware.UMEM) / platform.FrameSize)
	// Workers are asked one after the other: a frame that goes from one to the next meanwhile
	// counts twice.
	f.InFlight = f.Total - min(f.Total, f.Free+f.Fill+f.Rx+f.Tx+f.Completion)
	return out, nil
}

// report describes the worker and adds what it owns to the whole. Called by the worker between
// batches, when all its frames are on a ring or free.
func (w *Worker) report(all *api.Stats, on platform.Platform) api.WorkerStats {
	p := &w.proc.Packets
	v4, v6 := w.proc.Entries()
	all.Tables.ConnectionsV4 += uint64(v4)
	all.Tables.ConnectionsV6 += uint64(v6)
	all.Frames.Free += uint64(len(w.stock.free))
	syscalls := w.stats.sleeps
	for _, q := range w.queues {
		var k platform.QueueStats
		if q.Queue != (noQueue{}) { // else the platform may be busy with the port
			k = on.Stats(int(q.port), q.number)
		}
		syscalls += k.Syscalls
		all.Frames.Fill += k.Fill
		all.Frames.Rx += k.Rx
		all.Frames.Tx += k.Tx
		all.Frames.Completion += k.Completion
		all.Ports[q.port].Queues[q.index] = api.QueueStats{
			Queue: q.number, Worker: w.id, Rx: q.rx, Tx: q.tx, TxRingFull: q.txFull,
			KernelRxDropped: k.RxDropped, KernelRxInvalid: k.RxInvalid, KernelTxInvalid: k.TxInvalid,
			KernelRxRingFull: k.RxRingFull, KernelFillRingEmpty: k.FillRingEmpty,
			KernelTxRingEmpty: k.TxRingEmpty, Wakeups: k.Syscalls,
		}
	}
	return api.WorkerStats{
		Worker: w.id, CPU: w.cpu,
		Rx: p.Rx, Forwarded: p.Forwarded, Replied: p.Replied, Dropped: p.Dropped(),
		HandOversOut: p.HandedOut, HandOversIn: p.HandedIn,
		Loops:             w.stats.turns,
		PacketsPerBatch:   ratio(w.stats.frames, w.stats.busyTurns),
		SyscallsPerPacket: ratio(syscalls, w.stats.frames),
		BusyShare:         ratio(uint64(w.clock.busyNs), uint64(nowNs()-w.startNs)),
		BusyS:             float64(w.clock.busyNs) / 1e9, RunS: float64(nowNs()-w.startNs) / 1e9,
		StageNs: api.StageNs{
			Receive:  ratio(uint64(w.clock.stageNs[receiving]), w.stats.frames),
			Process:  ratio(uint64(w.clock.stageNs[processing]), w.stats.frames),
			Transmit: ratio(uint64(w.clock.stageNs[transmitting]), w.stats.frames),
		},
		GapNs: api.GapNs{
			P50: w.clock.gaps.quantile(0.5), P99: w.clock.gaps.quantile(0.99),
			P999: w.clock.gaps.quantile(0.999), Max: w.clock.gaps.max,
			Sum: w.clock.gaps.sum, Counts: w.clock.gaps.below(api.GapBounds),
		},
		FramesFree:  uint64(len(w.stock.free)),
		Connections: uint64(v4 + v6),
	}
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
