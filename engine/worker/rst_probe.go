package worker

import (
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/rings"
)

// rstProbesPerTurn bounds how many RST probes one turn sends. This makes 64,000 per second, in
// bursts that fit every ring.
const rstProbesPerTurn = 64

// sendRSTProbes makes and sends RST probes, which end connections of evicted backends, and SYNs
// that were refused, in free frames. At most slots slots of the connection table are examined.
// housekeep calls it, when no frames are waiting for a port.
func (w *Worker) sendRSTProbes(slots int) {
	free := w.frames.free
	count := min(rstProbesPerTurn, 2*w.batch, len(free))
	for i := range count {
		chunk := free[len(free)-1-i]
		w.addrs[i] = chunk
		w.work.Frames[i] = pipeline.Frame{Mem: w.umem[chunk : chunk+platform.FrameSize : chunk+platform.FrameSize]}
	}
	n := w.proc.MakeRSTProbes(w.work.Frames[:count], slots)
	w.frames.free = free[:len(free)-n]
	for i := range w.work.Frames[:n] {
		f := &w.work.Frames[i]
		w.enqueue(f.Port, rings.Desc{Addr: w.addrs[i] + uint64(f.Start), Len: uint32(f.End - f.Start)}, originated)
	}
	w.flushHandOuts()
	w.flushPorts()
}
