package pipeline

import "sluice/pipeline/packet"

// lookup maps address, port and protocol to a number: open-addressed arrays, one for each family,
// at most half full, so that a miss ends at the first or second slot. Its keys are the operator's,
// not the sender's; the hash needs no secret.
type lookup struct {
	v4  []lookupSlot4 // a power of two, and so is v6
	v6  []lookupSlot6
	len int
}

// lookupSlot4 is a slot for IPv4, where address, port and protocol fit one word.
type lookupSlot4 struct {
	key   uint64
	value uint32 // 0: free
}

type lookupSlot6 struct {
	addr  packet.Addr
	end   uint32 // port and protocol
	value uint32 // 0: free
}

func newLookup(n int) lookup {
	size := 4
	for size < 2*n {
		size *= 2
	}
	return lookup{v4: make([]lookupSlot4, size), v6: make([]lookupSlot6, size)}
}

// endOf packs port and protocol.
func endOf(port uint16, proto uint8) uint32 { return uint32(port)<<8 | uint32(proto) }

// key4 packs an IPv4 address with port and protocol.
func key4(addr, end uint32) uint64 { return uint64(addr)<<24 | uint64(end) }

// at4 is where the search for a key begins, before it is brought into the array.
func at4(key uint64) uint64 {
	// The product's upper half depends on the lower bits of what is multiplied only: addresses and
	// ports in a row must both differ there.
	return (key ^ key>>29) * 0xff51afd7ed558ccd >> 32
}

// at6 is at4 for IPv6.
func at6(addr packet.Addr, end uint32) uint64 {
	return (addr.Lo ^ addr.Hi*0x9e3779b97f4a7c15 ^ uint64(end)*0xd6e8feb86659fd93>>16) * 0xff51afd7ed558ccd >> 32
}

// put sets the value, which must not be 0.
func (l *lookup) put(addr packet.Addr, port uint16, proto uint8, value uint32) {
	end := endOf(port, proto)
	if l.get(addr, port, proto) == 0 {
		l.len++
	}
	if addr.Is4() {
		*l.slot4(key4(addr.V4(), end)) = lookupSlot4{key4(addr.V4(), end), value}
	} else {
		*l.slot6(addr, end) = lookupSlot6{addr, end, value}
	}
}

// get gives the value, 0 if there is none.
func (l *lookup) get(addr packet.Addr, port uint16, proto uint8) uint32 {
	end := endOf(port, proto)
	if addr.Is4() {
		return l.slot4(key4(addr.V4(), end)).value
	}
	return l.slot6(addr, end).value
}

// get4 is get for a key of key4.
func (l *lookup) get4(key uint64) uint32 { return l.slot4(key).value }

// slot4 finds the slot of an IPv4 key: its own, or the free one where it would go.
func (l *lookup) slot4(key uint64) *lookupSlot4 {
	for i := at4(key); ; i++ {
		s := &l.v4[i&uint64(len(l.v4)-1)]
		if s.key == key || s.value == 0 {
			return s
		}
	}
}

// slot6 is slot4 for IPv6.
func (l *lookup) slot6(addr packet.Addr, end uint32) *lookupSlot6 {
	for i := at6(addr, end); ; i++ {
		s := &l.v6[i&uint64(len(l.v6)-1)]
		if s.addr == addr && s.end == end || s.value == 0 {
			return s
		}
	}
}
