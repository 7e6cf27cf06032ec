package pipeline

import "sluice/pipeline/packet"

// NeighbourRequests collects addresses that packets could not be sent to for want of a neighbour, for the
// control plane to have them resolved. It is bounded: what doesn't fit asks again with its next
// packet.
type NeighbourRequests struct {
	addrs [16]packet.Addr
	n     int
}

func (w *NeighbourRequests) add(a packet.Addr) {
	for _, have := range w.addrs[:w.n] {
		if have == a {
			return
		}
	}
	if w.n < len(w.addrs) {
		w.addrs[w.n] = a
		w.n++
	}
}

// Flush calls ask for each address and forgets them all.
func (w *NeighbourRequests) Flush(ask func(packet.Addr)) {
	for _, a := range w.addrs[:w.n] {
		ask(a)
	}
	w.n = 0
}
