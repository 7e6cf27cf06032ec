package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// MaxBatch is the maximum number of frames of one Process call.
const MaxBatch = 256

// Verdict is what the caller must do with a frame after Process.
type Verdict uint8

// The verdicts. Process sets one for every frame; it determines the next owner of the frame.
const (
	Drop     Verdict = iota // Reason says why; the frame is free
	Forward                 // send Mem[Start:End] on Port
	Reply                   // send our own answer, Mem[Start:End], on Port
	HandOver                // pass the unchanged frame to Worker, which owns the flow
	// ToKernel: give the kernel the unchanged IP packet Mem[Start:End], or drop it for Reason
	ToKernel
	// Hold: a fragment waits in the Processor for the first one of its packet; the frame is free
	Hold
)

// Frame is one packet, the chunk of memory that it lies in, and what the stages record about it:
// two cache lines. The caller sets the fields up to Hops. The other fields may hold values of an
// earlier packet.
type Frame struct {
	Mem        []byte // the whole chunk: outer headers are put into the headroom before Start
	Start, End int    // the frame is Mem[Start:End]
	Port       uint8  // NIC port: in, of arrival; out, of departure
	Hops       uint8  // how many workers handed it over; 0: it came from a NIC port
	Verdict    Verdict
	Worker     uint8
	Reason     counter.Reason
	// Noted: another worker has noted the flow of a fragment in front of the frame; out, of a frame
	// that is handed over
	Noted bool

	kind    kind
	limit   uint8 // of a frame that was dropped as counter.Limited: which counter.Limit
	service uint32
	home    conn.Home // of the frame's flow
	// fullnatSlot: kindFastReply: slot+1 of the fullnat connection that has the port, and home is
	// its line; else 0
	fullnatSlot uint32
	meta        packet.Meta
	untracked   uint32 // of a packet that was forwarded without a connection: the backend's id
}

// kind is the path that a frame takes through the pipeline.
type kind uint8

const (
	kindDone      kind = iota // the verdict is set
	kindForward               // client to service
	kindReply                 // backend to client
	kindICMPIn                // ICMP error about a packet that went to the client
	kindICMPOut               // ICMP error about a packet that went to the backend
	kindEcho                  // ICMP echo request to a VIP
	kindNoService             // to a VIP, but to no service
	// kindFastForward4: client to service, if the connection confirms it: see fastpath.go
	kindFastForward4
	// kindFastOpen4: client to service, if a connection can be opened: see fastpath_open.go
	kindFastOpen4
	kindFastReply4   // backend to client, if the connection confirms it
	kindFastForward6 // from here on IPv6
	kindFastOpen6
	kindFastReply6
)

// Batch is the working set of one worker. The caller fills Frames[:n], calls Process with n and
// reads the verdicts.
type Batch struct {
	Frames [MaxBatch]Frame
}

// Untracked returns the id of the backend that the packet of a client was forwarded to without a
// connection.
func (f *Frame) Untracked() uint32 { return f.untracked }

// Limit returns the limit that a frame was dropped for, if Reason is counter.Limited.
func (f *Frame) Limit() counter.Limit { return counter.Limit(f.limit) }

func (f *Frame) drop(r counter.Reason) {
	f.Verdict, f.Reason = Drop, r
	f.kind = kindDone
}
