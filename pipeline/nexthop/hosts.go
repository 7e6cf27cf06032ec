package nexthop

import "sluice/pipeline/packet"

// hosts maps the address of a neighbour to the index of its way: an open-addressed array, at most a
// quarter full, so that the usual miss (a client behind a gateway) ends at its first slot.
//
// Whoever may claim addresses on a connected network can aim for slots that collide; the kernel's
// own limit on neighbours (gc_thresh3, 1024 unless set) bounds how far a probe then walks.
type hosts struct {
	slots []host // a power of two
	mask  uint64
}

type host struct {
	addr  packet.Addr
	entry uint32 // noRoute: slot is free
}

// newHosts makes room for n hosts.
func newHosts(n int) hosts {
	size := 1
	for size < 4*n {
		size *= 2
	}
	return hosts{make([]host, size), uint64(size - 1)}
}

// put adds a host; the first way that is put for an address stays.
func (h *hosts) put(addr packet.Addr, way uint32) {
	i := mix(addr) & h.mask
	for h.slots[i].entry != noRoute {
		if h.slots[i].addr == addr {
			return
		}
		i = (i + 1) & h.mask
	}
	h.slots[i] = host{addr, way}
}

// get gives the way to addr, noRoute if addr is no host.
func (h *hosts) get(addr packet.Addr) uint32 {
	for i := mix(addr); ; i++ {
		s := &h.slots[i&h.mask]
		if s.addr == addr || s.entry == noRoute {
			return s.entry
		}
	}
}
