package worker

import (
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/rings"
)

// pokesPerTick bounds how many frames of our own one tick sends: 64,000 per second, in bursts that
// any ring takes.
const pokesPerTick = 64

// poke goes on with ending connections of evicted backends, in frames from the worker's stock.
// Called by tick, when nothing is in line for any port.
func (w *Worker) poke(slots int) {
	free := w.stock.free
	room := min(pokesPerTick, 2*w.batch, len(free))
	for i := range room {
		chunk := free[len(free)-1-i]
		w.addrs[i] = chunk
		w.work.Frames[i] = pipeline.Frame{Mem: w.umem[chunk : chunk+platform.FrameSize : chunk+platform.FrameSize]}
	}
	n := w.proc.MakeRSTProbes(w.work.Frames[:room], slots)
	w.stock.free = free[:len(free)-n]
	for i := range w.work.Frames[:n] {
		f := &w.work.Frames[i]
		w.queueFor(f.Port, rings.Desc{Addr: w.addrs[i] + uint64(f.Start), Len: uint32(f.End - f.Start)}, originated)
	}
	w.flushHandOuts()
	w.flushPorts()
}
