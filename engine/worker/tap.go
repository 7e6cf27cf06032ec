package worker

import (
	"sync/atomic"

	"sluice/engine/filter"
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/rings"
)

// Tap is what one onlooker has in one worker: which frames, and where to put what became of them.
// Records lie in slots; their numbers travel to the onlooker and back over two rings, so that the
// worker neither allocates nor waits. Frames that find no free slot are counted and go by unseen.
type Tap struct {
	filter *filter.Filter
	snap   int // bytes of a frame that are kept, before and after
	slots  []Record
	lost   atomic.Uint64 // the worker writes, the onlooker reads

	free    *rings.Consumer[uint32] // the worker's ends
	full    *rings.Producer[uint32]
	pending []uint32 // of this turn: sending may still change how they end

	giveBack *rings.Producer[uint32] // the onlooker's ends
	arrived  *rings.Consumer[uint32]
}

// PacketRecord is one frame's way through one worker's pipeline.
type PacketRecord struct {
	Before, After pipeline.Observation // After has the connection as it was left
	Frame         pipeline.Frame       // with its verdict; its memory means nothing
	InPort        uint8
	In, Out       []byte // the frame as it came and as it left; maybe not whole
	OutLen        int    // bytes of the frame that left
	Worker        int
	Workers       int
	NowMs         uint32
}

// Record is a PacketRecord in a slot. The worker writes it, then the onlooker reads it, then the slot
// is free again.
type Record struct {
	PacketRecord
	AtNs  int64 // see Time
	InLen int
	chunk uint64 // of the frame
	bytes []byte // snap before, snap after
}

// NewTap returns a Tap for one worker.
func NewTap(f *filter.Filter, snap, slots int) *Tap {
	t := &Tap{filter: f, snap: snap, slots: make([]Record, slots), pending: make([]uint32, 0, slots)}
	t.giveBack, t.free = rings.NewSPSC[uint32](slots)
	t.full, t.arrived = rings.NewSPSC[uint32](slots)
	bytes := make([]byte, 2*snap*slots)
	for i := range t.slots {
		t.slots[i].bytes = bytes[2*snap*i : 2*snap*(i+1)]
		t.giveBack.Insert([]uint32{uint32(i)})
	}
	t.giveBack.Publish()
	return t
}

// tapping is a worker's state while somebody looks on. Owned by the worker; nil while nobody does.
type tapping struct {
	taps    []*Tap
	one     *pipeline.Batch
	in      []byte // the frame before
	scratch filter.Scratch
	number  [1]uint32 // scratch
}

// AddTap begins to record. It is called on the worker.
func (w *Worker) AddTap(t *Tap) {
	if w.tapping == nil {
		w.tapping = &tapping{one: new(pipeline.Batch), in: make([]byte, platform.FrameSize)}
	}
	w.tapping.taps = append(w.tapping.taps, t)
}

// RemoveTap ends it. It is called on the worker.
func (w *Worker) RemoveTap(t *Tap) {
	if w.tapping == nil {
		return
	}
	w.publishTaps()
	var rest []*Tap
	for _, other := range w.tapping.taps {
		if other != t {
			rest = append(rest, other)
		}
	}
	if w.tapping.taps = rest; len(rest) == 0 {
		w.tapping = nil
	}
}

// processTapped is Process for a worker that is looked at: frame by frame, so that what changes in
// the connections is known to be the frame's doing.
func (w *Worker) processTapped(n int) {
	x, tables := w.tapping, w.tables.Load()
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
				w.tapFrame(t, f, &before, in, port, w.addrs[i])
			}
		}
	}
}

// Sent says that the frame is to leave, changed or not, and not to another worker.
func Sent(f *pipeline.Frame) bool {
	return f.Verdict == pipeline.Forward || f.Verdict == pipeline.Reply
}

// tapFrame puts what became of a frame into a slot.
func (w *Worker) tapFrame(t *Tap, f *pipeline.Frame, before *pipeline.Observation, in []byte, port uint8, chunk uint64) {
	number := w.tapping.number[:]
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

// tapLoss notes that a frame of this turn could not be sent after all.
func (w *Worker) tapLoss(addr uint64, reason counter.Reason) {
	for _, t := range w.tapping.taps {
		for _, number := range t.pending {
			if r := &t.slots[number]; r.chunk == addr&^(platform.FrameSize-1) {
				r.Frame.Verdict, r.Frame.Reason = pipeline.Drop, reason
			}
		}
	}
}

// publishTaps shows the onlookers what this turn has brought.
func (w *Worker) publishTaps() {
	for _, t := range w.tapping.taps {
		t.full.Push(t.pending) // there is room: it holds all slots
		t.pending = t.pending[:0]
	}
}

// The onlooker's side of a Tap; its methods are called by one goroutine.

// Arrived fills numbers with those of records that are complete and returns how many there were.
func (t *Tap) Arrived(numbers []uint32) int { return t.arrived.Pop(numbers) }

// Record returns the record of that number, which Arrived has returned and Release not yet had.
func (t *Tap) Record(number uint32) *Record { return &t.slots[number] }

// Release returns a record's slot to the worker.
func (t *Tap) Release(number uint32) { t.giveBack.Push([]uint32{number}) }

// Lost returns how many frames went by without a record because no slot was free. Any goroutine may
// call it.
func (t *Tap) Lost() uint64 { return t.lost.Load() }
