package conn

import (
	"unsafe"

	"sluice/pipeline/packet"
)

// Entry is a copy of an entry of a table of another process. Expires and the numbers of service and
// backend have the meaning that they had there.
type Entry struct {
	Conn
	Client, BackendAddr packet.Addr
}

// Entries calls visit for each entry in the memory of a table of a family (4 or 6) that another
// process had, templates included. That process may have been killed while it wrote an entry: the
// caller checks each. The Entry is visit's until it returns.
func Entries(family int, mem []byte, visit func(*Entry)) {
	size := 32
	if family == 6 {
		size = 64
	}
	var e Entry
	for ; len(mem) >= size; mem = mem[size:] {
		p := unsafe.Pointer(unsafe.SliceData(mem))
		c := (*Conn)(p)
		if c.key == 0 || c.isMarker() {
			continue
		}
		e.Conn = *c
		if family == 6 {
			e6 := (*entry6)(p)
			e.Client = packet.Addr{Hi: e6.client[0], Lo: e6.client[1]}
			e.BackendAddr = packet.Addr{Hi: e6.backendHi, Lo: e6.backendLo}
		} else {
			e4 := (*entry4)(p)
			e.Client, e.BackendAddr = packet.AddrFrom4(e4.client()), packet.AddrFrom4(uint32(e4.ends>>32))
		}
		visit(&e)
	}
}

// SetService gives the entry another number of its service.
func (e *Entry) SetService(number uint32) {
	e.key = e.key&(templateBit<<32|1<<32-1) | uint64(number)<<32
}

// SetKey gives the entry what it is found by; the entry is a template, or a connection.
func (e *Entry) SetKey(k Key, template bool) {
	if e.key = k.pack(); template {
		e.key |= templateBit << 32
	}
}

// HasBackendAddr reports whether a backend with this address may be the entry's. An IPv4 table has
// no more than the end of an IPv6 address.
func (e *Entry) HasBackendAddr(a packet.Addr) bool {
	if e.Client.Is4() {
		a = packet.AddrFrom4(a.V4())
	}
	return e.BackendAddr == a
}

// Restore inserts a copy of an entry that another process had, without a reference to a template
// and without connections under it. It returns nil if the table has an entry with its key, or no
// space for it.
func (t *Table) Restore(e *Entry, nowMs uint32) *Conn {
	k := UnpackKey(e.key)
	home := t.Home(t.seed.Hash(e.Client, e.ClientPort(), e.Proto()))
	if t.Find(home, e.Client, k, nowMs) != nil {
		return nil
	}
	c := t.Insert(home, e.Client, k, e.BackendAddr, e.BackendPort, e.Flags&^(HasTemplate|Doubted), nowMs)
	if c == nil {
		return nil
	}
	c.Expires, c.Backend, c.State, c.Source, c.Extra = e.Expires, e.Backend, e.State, e.Source, e.Extra
	if c.IsTemplate() {
		c.setRefs(0)
	}
	return c
}

// Example returns the bytes of an IPv4 and an IPv6 entry with a different value in each field: the
// layout of entries, to be compared with that of another process.
func Example() []byte {
	head := Conn{
		key: 0x0102030405060708, Expires: 0x090a0b0c, Backend: 0x0d0e0f10, BackendPort: 0x1112, State: 0x13,
		Flags: 0x14, over: 0x15, Source: 0x16, Extra: 0x1718,
	}
	e4 := entry4{Conn: head, ends: 0x191a1b1c1d1e1f20}
	e6 := entry6{Conn: head, client: [2]uint64{0x2122232425262728, 0x292a2b2c2d2e2f30}, backendHi: 0x3132333435363738, backendLo: 0x393a3b3c3d3e3f40}
	b4, b6 := *(*[unsafe.Sizeof(e4)]byte)(unsafe.Pointer(&e4)), *(*[unsafe.Sizeof(e6)]byte)(unsafe.Pointer(&e6))
	return append(b4[:], b6[:]...)
}
