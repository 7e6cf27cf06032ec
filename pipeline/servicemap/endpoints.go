package servicemap

import "sluice/pipeline/packet"

// Endpoints maps address, port and protocol to a number above 0: open-addressed arrays, one for
// each family, at most half full, so that a miss ends at the first or second slot. The keys come
// from the configuration and not from packets, so the hash needs no secret.
type Endpoints struct {
	v4  []slot4 // a power of two, and so is v6
	v6  []slot6
	len int
}

// slot4 is a slot for IPv4, where address, port and protocol fit one word.
type slot4 struct {
	key   uint64
	value uint32 // 0: free
}

type slot6 struct {
	addr  packet.Addr
	end   uint32 // port and protocol
	value uint32 // 0: free
}

// NewEndpoints makes a map for at most n keys.
func NewEndpoints(n int) Endpoints { return NewEndpointsOf(n, n) }

// NewEndpointsOf makes a map for at most so many keys of each family.
func NewEndpointsOf(n4, n6 int) Endpoints {
	return Endpoints{v4: make([]slot4, slots(n4)), v6: make([]slot6, slots(n6))}
}

// slots returns the number of slots for n keys.
func slots(n int) int {
	size := 4
	for size < 2*n {
		size *= 2
	}
	return size
}

// End packs a port and a protocol.
func End(port uint16, proto uint8) uint32 { return uint32(port)<<8 | uint32(proto) }

// Key4 packs an IPv4 address with the End of a port and protocol.
func Key4(addr, end uint32) uint64 { return uint64(addr)<<24 | uint64(end) }

// hash4 returns where the search for a key begins, before it is reduced to the size of the array.
func hash4(key uint64) uint64 {
	// The upper half of the product depends on the lower bits of the factor only. The shift brings
	// the upper bits of the key there, so that consecutive addresses and consecutive ports both
	// differ there.
	return (key ^ key>>29) * 0xff51afd7ed558ccd >> 32
}

// hash6 is hash4 for IPv6.
func hash6(addr packet.Addr, end uint32) uint64 {
	return (addr.Lo ^ addr.Hi*0x9e3779b97f4a7c15 ^ uint64(end)*0xd6e8feb86659fd93>>16) * 0xff51afd7ed558ccd >> 32
}

// Put sets the value of a key. The value must not be 0.
func (e *Endpoints) Put(addr packet.Addr, port uint16, proto uint8, value uint32) {
	end := End(port, proto)
	if e.Get(addr, port, proto) == 0 {
		e.len++
	}
	if addr.Is4() {
		*e.slot4(Key4(addr.V4(), end)) = slot4{Key4(addr.V4(), end), value}
	} else {
		*e.slot6(addr, end) = slot6{addr, end, value}
	}
}

// Get returns the value of a key, 0 if it has none.
func (e *Endpoints) Get(addr packet.Addr, port uint16, proto uint8) uint32 {
	end := End(port, proto)
	if addr.Is4() {
		return e.slot4(Key4(addr.V4(), end)).value
	}
	return e.slot6(addr, end).value
}

// Get4 is Get for a Key4.
func (e *Endpoints) Get4(key uint64) uint32 { return e.slot4(key).value }

// Len returns the number of keys.
func (e *Endpoints) Len() int { return e.len }

// slot4 returns the slot of an IPv4 key, or the free one where it would be put.
func (e *Endpoints) slot4(key uint64) *slot4 {
	for i := hash4(key); ; i++ {
		s := &e.v4[i&uint64(len(e.v4)-1)]
		if s.key == key || s.value == 0 {
			return s
		}
	}
}

// slot6 is slot4 for IPv6.
func (e *Endpoints) slot6(addr packet.Addr, end uint32) *slot6 {
	for i := hash6(addr, end); ; i++ {
		s := &e.v6[i&uint64(len(e.v6)-1)]
		if s.addr == addr && s.end == end || s.value == 0 {
			return s
		}
	}
}
