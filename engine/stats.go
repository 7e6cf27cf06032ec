package engine

import (
	"context"
	"time"

	"sluice/engine/answers"
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
	reports, silent := e.answers.Reports(ctx)
	if api.Answered(silent) != nil {
		return api.Stats{}, silent
	}
	var sum counter.Packets
	for i := range reports {
		sum.Add(&reports[i].Counters.Packets)
		addReport(&out, i, &reports[i])
	}
	out.LostInCrash = sum.LostInCrash
	out.Rx, out.Forwarded, out.Replied, out.Originated = sum.Rx, sum.Forwarded, sum.Replied, sum.Originated
	out.PortReusedEarly, out.IdleReset = sum.PortReusedEarly, sum.IdleReset
	out.Untracked, out.Adopted, out.Displaced = sum.Untracked, sum.Adopted, sum.Displaced
	out.Waiting = sum.Waiting
	out.ToKernel, out.ToKernelFailed = sum.ToKernel, e.kernel.Failed()
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		out.Drops[r.String()] = sum.Drops[r]
	}
	for i := range out.Ports {
		c, err := e.platform.Outcomes(i)
		if err != nil {
			return api.Stats{}, err
		}
		out.Ports[i].XDP = api.XDPStats(c)
	}
	f := &out.Frames
	f.Total = uint64(len(e.hardware.UMEM) / platform.FrameSize)
	// Workers answer at different times: a frame that is handed over meanwhile counts twice.
	f.InFlight = f.Total - min(f.Total, f.Free+f.Fill+f.Rx+f.Tx+f.Completion)
	return out, silent
}

// addReport adds what a worker owns to the whole.
func addReport(all *api.Stats, worker int, r *answers.Report) {
	c := &r.Counters
	all.Workers = append(all.Workers, r.Stats)
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
