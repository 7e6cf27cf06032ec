package pipeline

import "sluice/pipeline/packet"

// lookup maps address, port and protocol to a number: an open-addressed array, at most half full, so
// that a miss ends at the first or second slot. Its keys are the operator's, not the sender's; the hash
// needs no secret.
type lookup struct {
	slots []lookupSlot
	mask  uint64
	len   int
}

type lookupSlot struct {
	addr  packet.Addr
	port  uint16
	proto uint8
	value uint32 // 0: free
}

func newLookup(n int) lookup {
	size := 4
	for size < 2*n {
		size *= 2
	}
	return lookup{slots: make([]lookupSlot, size), mask: uint64(size - 1)}
}

func (l *lookup) at(addr packet.Addr, port uint16, proto uint8) uint64 {
	h := (addr.Lo ^ addr.Hi*0x9e3779b97f4a7c15 ^ uint64(port)<<40 ^ uint64(proto)<<56) * 0xff51afd7ed558ccd
	return h >> 32
}

// put sets the value, which must not be 0.
func (l *lookup) put(addr packet.Addr, port uint16, proto uint8, value uint32) {
	for i := l.at(addr, port, proto); ; i++ {
		s := &l.slots[i&l.mask]
		if s.value == 0 {
			l.len++
		} else if s.addr != addr || s.port != port || s.proto != proto {
			continue
		}
		*s = lookupSlot{addr, port, proto, value}
		return
	}
}

// get gives the value, 0 if there is none.
func (l *lookup) get(addr packet.Addr, port uint16, proto uint8) uint32 {
	for i := l.at(addr, port, proto); ; i++ {
		s := &l.slots[i&l.mask]
		if s.value == 0 || s.addr == addr && s.port == port && s.proto == proto {
			return s.value
		}
	}
}
