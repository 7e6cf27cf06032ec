package truepath

import (
	"math/rand/v2"
	"time"

	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// inUse is how long after its last packet a flow keeps its port while other ports are free.
const inUse = 2 * time.Second

// searched limits how many ports are tried to find a free one.
const searched = 64

// flow is a probing socket and what the backend sees of it.
type flow struct {
	socket  socket
	path    *Path  // as of its last packet
	port    uint16 // of path.Own
	touched time.Time
}

// socket identifies the kernel's side: the connected target, the socket's port and protocol.
type socket struct {
	target packet.Addr
	port   uint16
	proto  uint8
}

// flows is the table of flows. Each has a port; ports are assigned in turn, so that a port that was
// just used is used again last. Only one goroutine may use it.
type flows struct {
	first uint16
	slots []flow // by port, from first on
	of    map[socket]*flow
	next  int
}

// newFlows returns a table for some ports. It starts at a random port: a backend may remember what
// an earlier process sent.
func newFlows(ports service.Ports) *flows {
	n := int(ports.Last) - int(ports.First) + 1
	return &flows{first: ports.First, slots: make([]flow, n), of: make(map[socket]*flow, n), next: rand.N(n)}
}

// out returns the socket's flow, and creates it if necessary.
func (f *flows) out(s socket, path *Path, now time.Time) *flow {
	found := f.of[s]
	if found == nil {
		found = f.free(now)
		delete(f.of, found.socket)
		found.socket = s
		f.of[s] = found
	}
	found.path, found.touched = path, now
	return found
}

// free returns the next port with a quiet flow, or else the next port.
func (f *flows) free(now time.Time) *flow {
	n := len(f.slots)
	at := f.next
	for range min(searched, n) {
		if now.Sub(f.slots[at].touched) > inUse {
			break
		}
		at = (at + 1) % n
	}
	f.next = (at + 1) % n
	f.slots[at].port = f.first + uint16(at)
	return &f.slots[at]
}

// in returns the flow of a packet to a port; nil: none.
func (f *flows) in(port uint16, now time.Time) *flow {
	at := int(port) - int(f.first)
	if at < 0 || at >= len(f.slots) || f.slots[at].path == nil {
		return nil
	}
	f.slots[at].touched = now
	return &f.slots[at]
}
