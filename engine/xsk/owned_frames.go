package xsk

import "math/bits"

// ownedFrames is the set of frames that a socket has, one bit per frame of the UMEM. It is private
// to the socket's worker, and may lie in memory that outlives the process (state.go). An array of
// owners in the UMEM would share cache lines between workers.
type ownedFrames struct {
	words  []uint64
	frames uint64 // of the UMEM
}

func newOwnedFrames(frames int) ownedFrames {
	return ownedFrames{make([]uint64, (frames+63)/64), uint64(frames)}
}

// add puts the frame that addr lies in into the set. It returns false if the frame is in the set
// already or does not exist.
func (o *ownedFrames) add(addr uint64) bool {
	frame := addr / FrameSize
	if frame >= o.frames || o.words[frame/64]&(1<<(frame%64)) != 0 {
		return false
	}
	o.words[frame/64] |= 1 << (frame % 64)
	return true
}

// remove takes the frame that addr lies in out of the set. It returns false if the frame is not in
// it.
func (o *ownedFrames) remove(addr uint64) bool {
	frame := addr / FrameSize
	if frame >= o.frames || o.words[frame/64]&(1<<(frame%64)) == 0 {
		return false
	}
	o.words[frame/64] &^= 1 << (frame % 64)
	return true
}

// has reports whether the frame that addr lies in is in the set.
func (o *ownedFrames) has(addr uint64) bool {
	frame := addr / FrameSize
	return frame < o.frames && o.words[frame/64]&(1<<(frame%64)) != 0
}

// count returns the number of frames in the set.
func (o *ownedFrames) count() (n int) {
	for _, word := range o.words {
		n += bits.OnesCount64(word)
	}
	return n
}

// addrs returns the chunk start addresses of all frames in the set, in order.
func (o *ownedFrames) addrs() []uint64 {
	var list []uint64
	for i, word := range o.words {
		for ; word != 0; word &= word - 1 {
			list = append(list, uint64(i*64+bits.TrailingZeros64(word))*FrameSize)
		}
	}
	return list
}
