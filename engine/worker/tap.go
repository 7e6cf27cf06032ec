package worker

import (
	"sync/atomic"

	"sluice/engine/filter"
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/rings"
)

// Tap records frames of one worker for one trace. Records lie in slots. The numbers of the slots go
// to the trace and back over two rings, so that the worker neither allocates nor waits. A frame
// that finds no free slot is counted as lost and not recorded.
type Tap struct {
	filter *filter.Filter
	snap   int // bytes of a frame that are recorded, as received and as sent
	slots  []Record
	lost   atomic.Uint64 // the worker writes, the trace reads

	free    *rings.Consumer[uint32] // the worker's ends
	full    *rings.Producer[uint32]
	pending []uint32 // of this turn: a frame may still be dropped when it is transmitted

	release *rings.Producer[uint32] // the trace's ends
	arrived *rings.Consumer[uint32]
}

// PacketRecord is what one worker's pipeline did with one frame.
type PacketRecord struct {
	Before, After pipeline.Observation // After has the connection as the frame left it
	Frame         pipeline.Frame       // with its verdict, without its memory
	InPort        uint8
	In, Out       []byte // the frame as received and as sent, possibly cut
	OutLen        int    // bytes of the sent frame
	Worker        int
	Workers       int
	NowMs         uint32
}

// Record is a PacketRecord in a slot. The worker writes it, then the trace reads it, then the slot
// is free again.
type Record struct {
	PacketRecord
	AtNs  int64  // see Time
	InLen int    // bytes of the received frame
	chunk uint64 // of the frame
	bytes []byte // snap for In, snap for Out
}

// NewTap returns a Tap that records frames which f matches, up to snap bytes of each.
func NewTap(f *filter.Filter, snap, slots int) *Tap {
	t := &Tap{filter: f, snap: snap, slots: make([]Record, slots), pending: make([]uint32, 0, slots)}
	t.release, t.free = rings.NewSPSC[uint32](slots)
	t.full, t.arrived = rings.NewSPSC[uint32](slots)
	bytes := make([]byte, 2*snap*slots)
	for i := range t.slots {
		t.slots[i].bytes = bytes[2*snap*i : 2*snap*(i+1)]
		t.release.Insert([]uint32{uint32(i)})
	}
	t.release.Publish()
	return t
}

// tapState is what a worker needs while it has Taps.
type tapState struct {
	taps    []*Tap
	one     *pipeline.Batch
	in      []byte // the frame as received
	scratch filter.Scratch
	number  [1]uint32 // scratch
}

// AddTap starts recording. It is called on the worker.
func (w *Worker) AddTap(t *Tap) {
	if w.tapState == nil {
		w.tapState = &tapState{one: new(pipeline.Batch), in: make([]byte, platform.FrameSize)}
	}
	w.tapState.taps = append(w.tapState.taps, t)
}

// RemoveTap ends recording. It is called on the worker.
func (w *Worker) RemoveTap(t *Tap) {
	if w.tapState == nil {
		return
	}
	w.publishTaps()
	var rest []*Tap
	for _, other := range w.tapState.taps {
		if other != t {
			rest = append(rest, other)
		}
	}
	if w.tapState.taps = rest; len(rest) == 0 {
		w.tapState = nil
	}
}

// processTapped runs the pipeline frame by frame, so that each change of a connection can be
// attributed to a frame.
func (w *Worker) processTapped(n int) {
	x, tables := w.tapState, w.tables.Load()
	for i := range w.work.Frames[:n] {
		f := &w.work.Frames[i]
		in := x.in[:copy(x.in, f.Mem[f.Start:f.End])]
		port := f.Port
		before := w.proc.Observe(*f, tables, w.clock.ms)
		x.one.Frames[0] = *f
		w.proc.Process(x.one, 1, tables, w.clock.ms)
		*f = x.one.Frames[0]
		for _, t := range x.taps {
			if t.filter.Match(&x.scratch, in, len(in)) || Sent(f) && t.filter.Match(&x.scratch, f.Mem[f.Start:f.End], f.End-f.Start) {
				w.recordFrame(t, f, &before, in, port, w.addrs[i])
			}
		}
	}
}

// Sent reports whether the frame goes to a port, changed or not.
func Sent(f *pipeline.Frame) bool {
	return f.Verdict == pipeline.Forward || f.Verdict == pipeline.Reply
}

// recordFrame records a frame in a free slot.
func (w *Worker) recordFrame(t *Tap, f *pipeline.Frame, before *pipeline.Observation, in []byte, port uint8, chunk uint64) {
	number := w.tapState.number[:]
	if t.free.Pop(number) == 0 {
		t.lost.Store(t.lost.Load() + 1)
		return
	}
	r := &t.slots[number[0]]
	r.PacketRecord = PacketRecord{
		Before: *before, After: *before, Frame: *f, InPort: port,
		Worker: w.id, Workers: len(w.handOut), NowMs: w.clock.ms,
	}
	w.proc.Refresh(&r.After, w.clock.ms)
	r.Frame.Mem = nil
	r.chunk, r.AtNs, r.InLen = chunk, w.clock.ns, len(in)
	r.In = r.bytes[:copy(r.bytes[:t.snap], in)]
	if Sent(f) {
		r.Out = r.bytes[t.snap : t.snap+copy(r.bytes[t.snap:], f.Mem[f.Start:f.End])]
		r.OutLen = f.End - f.Start
	}
	t.pending = append(t.pending, number[0])
}

// recordDrop changes the record of a frame that could not be transmitted.
func (w *Worker) recordDrop(addr uint64, reason counter.Reason) {
	for _, t := range w.tapState.taps {
		for _, number := range t.pending {
			if r := &t.slots[number]; r.chunk == addr&^(platform.FrameSize-1) {
				r.Frame.Verdict, r.Frame.Reason = pipeline.Drop, reason
			}
		}
	}
}

// publishTaps passes this turn's records to the traces.
func (w *Worker) publishTaps() {
	for _, t := range w.tapState.taps {
		t.full.Push(t.pending) // never full: it holds all slots
		t.pending = t.pending[:0]
	}
}

// The trace's side of a Tap. One goroutine calls these methods.

// Arrived fills numbers with those of records that are complete and returns how many there were.
func (t *Tap) Arrived(numbers []uint32) int { return t.arrived.Pop(numbers) }

// Record returns the record of a number that Arrived returned. It is valid until Release is called
// with the number.
func (t *Tap) Record(number uint32) *Record { return &t.slots[number] }

// Release makes a record's slot free.
func (t *Tap) Release(number uint32) { t.release.Push([]uint32{number}) }

// Lost returns how many frames were not recorded because no slot was free. Any goroutine may call
// it.
func (t *Tap) Lost() uint64 { return t.lost.Load() }
