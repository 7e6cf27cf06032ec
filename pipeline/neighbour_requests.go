package pipeline

import "sluice/pipeline/packet"

// NeighbourRequests is a set of destinations that packets could not be sent to because the MAC
// address of the next hop is not known. The control plane has them resolved. The set is bounded: a
// destination that does not fit is added by its next packet.
type NeighbourRequests struct {
	addrs [16]packet.Addr
	n     int
}

// add adds a destination.
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

// Flush calls request for each destination and empties the set. Only the owning goroutine may call
// it.
func (w *NeighbourRequests) Flush(request func(packet.Addr)) {
	for _, a := range w.addrs[:w.n] {
		request(a)
	}
	w.n = 0
}
