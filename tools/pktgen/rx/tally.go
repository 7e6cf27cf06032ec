package rx

import "sluice/tools/pktgen/frame"

// tally counts frames in user space as sink.c does in the kernel. It belongs to one goroutine at a
// time.
type tally struct {
	stream uint8
	counts Counts
	flows  []follow
}

// follow is the state of one flow.
type follow struct {
	seen uint64 // bit i: sequence number top - i was received
	Flow
}

// take counts one frame and reports whether it belongs to the stream.
func (t *tally) take(b []byte) (frame.Stamp, bool) {
	stamp, sort := frame.Read(b)
	switch sort {
	case frame.Other:
		t.counts.Other++
		return stamp, false
	case frame.Plain:
		t.counts.PlainFrames++
		t.counts.PlainBytes += uint64(len(b))
		return stamp, false
	}
	if stamp.Stream != t.stream || len(t.flows) > 0 && int(stamp.Flow) >= len(t.flows) {
		t.counts.Foreign++
		return stamp, false
	}
	t.counts.Frames++
	t.counts.Bytes += uint64(len(b))
	if len(t.flows) > 0 {
		t.follow(&t.flows[stamp.Flow], stamp.Sequence)
	}
	return stamp, true
}

func (t *tally) follow(f *follow, sequence uint32) {
	if f.Distinct == 0 {
		f.seen, f.Top, f.Distinct = 1, sequence, 1
		return
	}
	ahead := int32(sequence - f.Top) // sequence numbers wrap
	if ahead > 0 {
		f.seen = f.seen<<uint(ahead) | 1
		f.Top = sequence
		f.Distinct++
		return
	}
	behind := uint32(-int64(ahead))
	switch {
	case behind >= 64:
		t.counts.Ancient++
	case f.seen&(1<<behind) != 0:
		t.counts.Duplicates++
		return
	default:
		f.seen |= 1 << behind
	}
	t.counts.Reordered++
	f.Late++
	f.Distinct++
}

// list returns the state of all flows.
func (t *tally) list() []Flow {
	if t.flows == nil {
		return nil
	}
	flows := make([]Flow, len(t.flows))
	for i, f := range t.flows {
		flows[i] = f.Flow
	}
	return flows
}
