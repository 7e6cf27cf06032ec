package pipeline

import "sluice/pipeline/packet"

// lookup maps address, port and protocol to a number: an open-addressed array, at most half full, so
// that a miss ends at the first or second slot. Its keys are the operator's, not the sender's; the hash
// needs no secret.
type lookup struct {
	slots []lookupSlot // a power of two
	len   int
}

type lookupSlot struct {
	addr  packet.Addr
	end   uint32 // port and protocol
	value uint32 // 0: free
}

func newLookup(n int) lookup {
	size := 4
	for size < 2*n {
		size *= 2
	}
	return lookup{slots: make([]lookupSlot, size)}
}

// endOf packs port and protocol.
func endOf(port uint16, proto uint8) uint32 { return uint32(port)<<8 | uint32(proto) }

// at is where the search for a key begins, before it is brought into the array.
func (l *lookup) at(addr packet.Addr, end uint32) uint64 {
	// The product's upper half depends on the lower bits of what is multiplied only: addresses and ports in a
	// row must both differ there.
	return (addr.Lo ^ addr.Hi*0x9e3779b97f4a7c15 ^ uint64(end)*0xd6e8feb86659fd93>>16) * 0xff51afd7ed558ccd >> 32
}

// put sets the value, which must not be 0.
func (l *lookup) put(addr packet.Addr, port uint16, proto uint8, value uint32) {
	end := endOf(port, proto)
	for i := l.at(addr, end); ; i++ {
		s := &l.slots[i&uint64(len(l.slots)-1)]
		if s.value == 0 {
			l.len++
		} else if s.addr != addr || s.end != end {
			continue
		}
		*s = lookupSlot{addr, end, value}
		return
	}
}

// get gives the value, 0 if there is none.
func (l *lookup) get(addr packet.Addr, port uint16, proto uint8) uint32 {
	end := endOf(port, proto)
	for i := l.at(addr, end); ; i++ {
		s := &l.slots[i&uint64(len(l.slots)-1)]
		if s.addr == addr && s.end == end || s.value == 0 {
			return s.value
		}
	}
}
