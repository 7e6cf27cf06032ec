package capture

// Replay returns the frames of a capture one after the other, as a Source of package tx. It belongs
// to one goroutine.
type Replay struct {
	file  *File
	rest  int // loops left; below 0: endless
	next  int
	lapNS int64 // start of this loop, after the first one
}

// NewReplay returns a Replay of the capture loops times, without an end if loops is 0.
func NewReplay(f *File, loops int) *Replay {
	if loops == 0 {
		return &Replay{file: f, rest: -1}
	}
	return &Replay{file: f, rest: loops - 1}
}

// MaxBytes returns the length of the longest frame.
func (r *Replay) MaxBytes() (longest int) {
	for i := range r.file.Frames() {
		longest = max(longest, len(r.file.Frame(i)))
	}
	return longest
}

// Next copies the next frame to the start of to and returns its length; 0 after the last loop.
func (r *Replay) Next(to []byte, _ int64) (bytes int) {
	if r.next == r.file.Frames() {
		if r.rest == 0 {
			return 0
		}
		if r.rest > 0 {
			r.rest--
		}
		r.lapNS = r.OffsetNS()
		r.next = 0
	}
	r.next++
	return copy(to, r.file.Frame(r.next-1))
}

// OffsetNS returns when the next frame was captured, in ns after the first one. Of a capture that
// is sent several times, the next loop begins when the last frame of this one is sent.
func (r *Replay) OffsetNS() int64 {
	i := min(r.next, r.file.Frames()-1)
	return r.lapNS + r.file.frames[i].offsetNS
}
