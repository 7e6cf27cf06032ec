package nexthop

import "sluice/pipeline/packet"

// hosts maps the address of a neighbour to the index of its entry: an open-addressed array, at most
// a quarter full, so that the usual miss (a client behind a gateway) ends at its first slot.
//
// A host in a connected network can claim addresses with colliding slots. The kernel's own limit on
// neighbours (gc_thresh3, 1024 by default) bounds the length of a probe then.
type hosts struct {
	slots []host // a power of two
	mask  uint64
}

type host struct {
	addr  packet.Addr
	entry uint32 // noRoute: slot is free
}

// newHosts makes a map for n hosts.
func newHosts(n int) hosts {
	size := 1
	for size < 4*n {
		size *= 2
	}
	return hosts{make([]host, size), uint64(size - 1)}
}

// put adds a host; the first entry that is put for an address stays.
func (h *hosts) put(addr packet.Addr, entry uint32) {
	i := mix(addr) & h.mask
	for h.slots[i].entry != noRoute {
		if h.slots[i].addr == addr {
			return
		}
		i = (i + 1) & h.mask
	}
	h.slots[i] = host{addr, entry}
}

// get returns the entry for addr, noRoute if addr is not a host.
func (h *hosts) get(addr packet.Addr) uint32 {
	for i := mix(addr); ; i++ {
		s := &h.slots[i&h.mask]
		if s.addr == addr || s.entry == noRoute {
			return s.entry
		}
	}
}
