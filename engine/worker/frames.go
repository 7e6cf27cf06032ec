package worker

import (
	"sluice/engine/platform"
	"sluice/rings"
)

// frames is one worker's free frames. The UMEM is divided into parts, one per worker: a frame's
// origin is the worker of the part that it lies in. A worker that transmitted a frame of another
// origin, which was handed over to it, returns it over a ring that has a slot for each of the
// origin's frames and so is never full. This way no worker runs out of frames because others hold
// them. A queue that was taken over from a former process may have frames of any origin; they
// return to it like others.
type frames struct {
	free        []uint64 // chunk addresses; a stack: the last one used is in the caches
	begin, size uint64   // this worker's part of the UMEM, in bytes
	count       int      // frames in it
	origins     []uint8  // by frame, shared by all workers

	foreign [][]uint64 // by origin: frames of other workers, returned once per turn
	out     []*rings.Producer[uint64]
	in      []*rings.Consumer[uint64]
}

// parts is how the frames are divided among the workers.
type parts struct {
	first   []int   // frame of each worker's part; and the number of all frames
	origins []uint8 // by frame: its worker
}

// queueWeight is how many times the frames of a worker without a queue a queue gets: that worker
// only makes RST probes.
const queueWeight = 16

// divide divides frames among workers that have so many queues.
func divide(frames int, queues []int) parts {
	all := 0
	for _, n := range queues {
		all += max(1, n*queueWeight)
	}
	p, before := parts{first: []int{0}, origins: make([]uint8, frames)}, 0
	for w, n := range queues {
		before += max(1, n*queueWeight)
		for frame := p.first[w]; frame < frames*before/all; frame++ {
			p.origins[frame] = uint8(w)
		}
		p.first = append(p.first, frames*before/all)
	}
	return p
}

// newFrames returns the free frames of a worker. Those in held, one bit per frame, are not free.
func newFrames(worker int, p parts, held []uint64) *frames {
	workers, first, end := len(p.first)-1, p.first[worker], p.first[worker+1]
	f := &frames{
		begin: uint64(first) * platform.FrameSize, size: uint64(end-first) * platform.FrameSize,
		count: end - first, origins: p.origins,
		free:    make([]uint64, 0, len(p.origins)),
		foreign: make([][]uint64, workers),
		out:     make([]*rings.Producer[uint64], workers),
		in:      make([]*rings.Consumer[uint64], workers),
	}
	for frame := first; frame < end; frame++ {
		if held == nil || held[frame/64]&(1<<(frame%64)) == 0 {
			f.free = append(f.free, uint64(frame)*platform.FrameSize)
		}
	}
	for i := range f.foreign {
		f.foreign[i] = make([]uint64, 0, p.first[i+1]-p.first[i])
	}
	return f
}

// put adds a frame that its last user is done with; addr may lie anywhere in its chunk.
func (f *frames) put(addr uint64) {
	addr &^= platform.FrameSize - 1
	if addr-f.begin < f.size { // nearly always
		f.free = append(f.free, addr)
		return
	}
	origin := f.origins[addr/platform.FrameSize]
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
