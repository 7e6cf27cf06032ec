package worker

import (
	"sluice/engine/platform"
	"sluice/rings"
)

// stock is one worker's share of the UMEM's frames. Every frame has a home, the worker in whose
// share it lies. A worker that ends up with another's frame - handed over to it and sent - returns
// it over a ring that holds all of the home's frames and so is never full: no worker can bleed dry.
type stock struct {
	free   []uint64 // chunk addresses; a stack, so that the warmest is used next
	worker int
	share  uint64 // bytes of UMEM per worker

	away [][]uint64 // by worker: frames on their way home, sent once per turn
	out  []*rings.Producer[uint64]
	in   []*rings.Consumer[uint64]
}

func newStock(worker, workers, frames int) *stock {
	s := &stock{
		worker: worker,
		share:  uint64(frames) * platform.FrameSize,
		free:   make([]uint64, 0, frames*workers),
		away:   make([][]uint64, workers),
		out:    make([]*rings.Producer[uint64], workers),
		in:     make([]*rings.Consumer[uint64], workers),
	}
	for i := range frames {
		s.free = append(s.free, uint64(worker*frames+i)*platform.FrameSize)
	}
	for i := range s.away {
		s.away[i] = make([]uint64, 0, frames)
	}
	return s
}

// give takes back a frame from wherever it was; addr may lie anywhere in its chunk.
func (s *stock) give(addr uint64) {
	addr &^= platform.FrameSize - 1
	if addr-uint64(s.worker)*s.share < s.share { // nearly all: to divide takes as long as all else
		s.free = append(s.free, addr)
		return
	}
	home := addr / s.share
	s.away[home] = append(s.away[home], addr)
}

// refill gives the queue up to n free frames.
func (s *stock) refill(q platform.Queue, n int) {
	top := s.free[len(s.free)-min(n, len(s.free)):]
	took := q.Refill(top)
	copy(top, top[took:])
	s.free = s.free[:len(s.free)-took]
}

// exchange sends strangers home and collects one's own.
func (s *stock) exchange() {
	for w, frames := range s.away {
		if len(frames) > 0 {
			s.out[w].Push(frames)
			s.away[w] = frames[:0]
		}
	}
	for _, ring := range s.in {
		if ring != nil {
			n := ring.Pop(s.free[len(s.free):cap(s.free)])
			s.free = s.free[:len(s.free)+n]
		}
	}
}

// comingHome says that other workers have sent frames home that were not collected yet.
func (s *stock) comingHome() bool {
	for _, ring := range s.in {
		if ring != nil && ring.Len() > 0 {
			return true
		}
	}
	return false
}
