package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// MaxBatch is the most frames that one Process call takes.
const MaxBatch = 256

// Verdict is what becomes of a frame.
type Verdict uint8

// The verdicts. Process sets one for every frame; exactly one owner follows from it.
const (
	Drop     Verdict = iota // Reason says why; the frame is free
	Forward                 // send Mem[Start:End] on Port
	Reply                   // our own answer, likewise on Port
	HandOver                // Worker owns this flow; the frame is unchanged
)

// Frame is one packet, the chunk of memory that it lies in, and what the stages find out about it:
// two cache lines. Fill in the fields up to Hops; what else it holds from its last packet doesn't
// matter.
type Frame struct {
	Mem        []byte // the whole chunk: headers grow into what is in front of Start
	Start, End int    // the frame is Mem[Start:End]
	Port       uint8  // in: port it came by; out: port it leaves by
	Hops       uint8  // workers that handed it on; 0: fresh from a port
	Verdict    Verdict
	Worker     uint8
	Reason     counter.Reason

	kind        kind
	service     uint32
	home        conn.Home // of the frame's flow
	fullnatSlot uint32    // kindBack: slot, plus 1, of the fullnat connection that the frame may be for, and then home is where that is; else 0
	meta        packet.Meta
	_           [4]byte
}

// kind is which of the paths through the pipeline a frame takes.
type kind uint8

const (
	kindDone         kind = iota // verdict is set already
	kindForward                  // client to service
	kindReply                    // backend to client
	kindICMPIn                   // ICMP error about a packet that went to the client
	kindICMPOut                  // ICMP error about a packet that went to the backend
	kindFastForward4             // client to service, if a look at its connection confirms it: see express.go
	kindFastOpen4                // client to service, if a connection can be opened: see express_open.go
	kindFastReply4               // backend to client, likewise
	kindFastForward6             // from here on IPv6
	kindFastOpen6
	kindFastReply6
)

// Batch is the working set of one worker: fill Frames[:n], call Process with n, read the verdicts.
type Batch struct {
	Frames [MaxBatch]Frame
}

func (f *Frame) drop(r counter.Reason) {
	f.Verdict, f.Reason = Drop, r
	f.kind = kindDone
}
