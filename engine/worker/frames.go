package worker

import (
	"sluice/engine/platform"
	"sluice/rings"
)

// frames is one worker's free frames. The UMEM is divided into equal parts, one per worker: a
// frame's origin is the worker of the part that it lies in. A worker that transmitted a frame of
// another origin, which was handed over to it, returns it over a ring that has a slot for each of
// the origin's frames and so is never full. This way no worker runs out of frames because others
// hold them.
type frames struct {
	free   []uint64 // chunk addresses; a stack: the last one used is in the caches
	worker int
	part   uint64 // bytes of UMEM per worker

	foreign [][]uint64 // by origin: frames of other workers, returned once per turn
	out     []*rings.Producer[uint64]
	in      []*rings.Consumer[uint64]
}

// newFrames returns the free frames of a worker that has this many frames, as has each of the
// others. Those in held, one bit per frame, are not free.
func newFrames(worker, workers, count int, held []uint64) *frames {
	f := &frames{
		worker:  worker,
		part:    uint64(count) * platform.FrameSize,
		free:    make([]uint64, 0, count*workers),
		foreign: make([][]uint64, workers),
		out:     make([]*rings.Producer[uint64], workers),
		in:      make([]*rings.Consumer[uint64], workers),
	}
	for frame := worker * count; frame < (worker+1)*count; frame++ {
		if held == nil || held[frame/64]&(1<<(frame%64)) == 0 {
			f.free = append(f.free, uint64(frame)*platform.FrameSize)
		}
	}
	for i := range f.foreign {
		f.foreign[i] = make([]uint64, 0, count)
	}
	return f
}

// put adds a frame that its last user is done with; addr may lie anywhere in its chunk.
func (f *frames) put(addr uint64) {
	addr &^= platform.FrameSize - 1
	if addr-uint64(f.worker)*f.part < f.part { // nearly always; the division below is slow
		f.free = append(f.free, addr)
		return
	}
	origin := addr / f.part
	f.foreign[origin] = append(f.foreign[origin], addr)
}

// refill gives the queue up to n free frames.
func (f *frames) refill(q platform.Queue, n int) {
	top := f.free[len(f.free)-min(n, len(f.free)):]
	took := q.Refill(top)
	copy(top, top[took:])
	f.free = f.free[:len(f.free)-took]
}

// exchange returns other workers' frames and collects ours.
func (f *frames) exchange() {
	for w, frames := range f.foreign {
		if len(frames) > 0 {
			f.out[w].Push(frames)
			f.foreign[w] = frames[:0]
		}
	}
	for _, ring := range f.in {
		if ring != nil {
			n := ring.Pop(f.free[len(f.free):cap(f.free)])
			f.free = f.free[:len(f.free)+n]
		}
	}
}

// returning reports whether other workers have returned frames that were not collected yet.
func (f *frames) returning() bool {
	for _, ring := range f.in {
		if ring != nil && ring.Len() > 0 {
			return true
		}
	}
	return false
}
