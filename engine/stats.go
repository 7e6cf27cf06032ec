package engine

import (
	"context"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/worker"
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
	reports, silent := e.reports(ctx)
	if api.Answered(silent) != nil {
		return api.Stats{}, silent
	}
	var sum counter.Packets
	for i := range reports {
		sum.Add(&reports[i].counters.Packets)
		addReport(&out, i, &reports[i])
	}
	out.Rx, out.Forwarded, out.Replied, out.Originated = sum.Rx, sum.Forwarded, sum.Replied, sum.Originated
	out.PortReusedEarly = sum.PortReusedEarly
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		out.Drops[r.String()] = sum.Drops[r]
	}
	f := &out.Frames
	f.Total = uint64(len(e.hardware.UMEM) / platform.FrameSize)
	// Workers answer at different times: a frame that is handed over meanwhile counts twice.
	f.InFlight = f.Total - min(f.Total, f.Free+f.Fill+f.Rx+f.Tx+f.Completion)
	return out, silent
}

// addReport adds what a worker owns to the whole.
func addReport(all *api.Stats, worker int, r *workerReport) {
	c := &r.counters
	all.Workers = append(all.Workers, r.stats)
	all.Tables.ConnectionsV4 += uint64(c.Conns4)
	all.Tables.ConnectionsV6 += uint64(c.Conns6)
	all.Frames.Free += uint64(c.FramesFree)
	for i := range c.Queues {
		q := &c.Queues[i]
		k := &q.Platform
		all.Frames.Fill += k.Fill
		all.Frames.Rx += k.Rx
		all.Frames.Tx += k.Tx
		all.Frames.Completion += k.Completion
		all.Ports[q.Port].Queues[q.Index] = api.QueueStats{
			Queue: q.Number, Worker: worker, Rx: q.Rx, Tx: q.Tx, TxRingFull: q.TxFull,
			KernelRxDropped: k.RxDropped, KernelRxInvalid: k.RxInvalid, KernelTxInvalid: k.TxInvalid,
			KernelRxRingFull: k.RxRingFull, KernelFillRingEmpty: k.FillRingEmpty,
			KernelTxRingEmpty: k.TxRingEmpty, Wakeups: k.Syscalls,
		}
	}
}

// report translates a worker's counters. It is called on the worker, for its histogram is read.
func report(w *worker.Worker, c *worker.Counters) api.WorkerStats {
	syscalls := c.Sleeps
	for i := range c.Queues {
		syscalls += c.Queues[i].Platform.Syscalls
	}
	p := &c.Packets
	return api.WorkerStats{
		Worker: w.ID(), CPU: w.CPU(),
		Rx: p.Rx, Forwarded: p.Forwarded, Replied: p.Replied, Dropped: p.Dropped(),
		HandOversOut: p.HandedOut, HandOversIn: p.HandedIn,
		Loops:             c.Turns,
		PacketsPerBatch:   ratio(c.Frames, c.BusyTurns),
		SyscallsPerPacket: ratio(syscalls, c.Frames),
		BusyShare:         ratio(uint64(c.BusyNs), uint64(c.RunNs)),
		BusyS:             float64(c.BusyNs) / 1e9, RunS: float64(c.RunNs) / 1e9,
		StageNs: api.StageNs{
			Receive:  ratio(uint64(c.ReceiveNs), c.Frames),
			Process:  ratio(uint64(c.ProcessNs), c.Frames),
			Transmit: ratio(uint64(c.TransmitNs), c.Frames),
		},
		GapNs: api.GapNs{
			P50: c.Gaps.Quantile(0.5), P99: c.Gaps.Quantile(0.99),
			P999: c.Gaps.Quantile(0.999), Max: c.Gaps.Max(),
			Sum: c.Gaps.Sum(), Counts: c.Gaps.Below(api.GapBounds),
		},
		FramesFree:  uint64(c.FramesFree),
		Connections: uint64(c.Conns4 + c.Conns6),
	}
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
