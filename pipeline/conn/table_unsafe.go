package conn

import "unsafe"

// pointer is a place in a table's memory.
type pointer = unsafe.Pointer

// entry4 and entry6 are the two layouts in memory. Both begin with the Conn, so that everything but key
// comparison works on either. Sizes are pinned below: two entry4 or one entry6 fill a cache line.
type entry4 struct {
	Conn
	client  uint32
	backend uint32
}

type entry6 struct {
	Conn
	_       [8]byte
	client  [2]uint64
	backend [2]uint64
}

var (
	_ [32]byte = [unsafe.Sizeof(entry4{})]byte{}
	_ [64]byte = [unsafe.Sizeof(entry6{})]byte{}
)

// base returns the first line. The memory must be aligned to a line; mmap gives whole pages.
func base(mem []byte) unsafe.Pointer {
	p := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(p)%LineSize != 0 {
		panic("conn: table memory is not aligned to a cache line")
	}
	return p
}

func (t *Table) conn(slot uint32) *Conn {
	return (*Conn)(unsafe.Add(t.base, uintptr(slot)<<t.slotShift))
}

func (t *Table) entry4(slot uint32) *entry4 {
	return (*entry4)(unsafe.Add(t.base, uintptr(slot)<<5))
}

func (t *Table) entry6(slot uint32) *entry6 {
	return (*entry6)(unsafe.Add(t.base, uintptr(slot)<<6))
}

// slotOf is the inverse of conn.
func (t *Table) slotOf(c *Conn) uint32 {
	return uint32((uintptr(unsafe.Pointer(c)) - uintptr(t.base)) >> t.slotShift)
}

// Address gives the memory address of a hash's home line, for Prefetch.
func (t *Table) Address(hash uint64) uintptr {
	return uintptr(t.base) + uintptr(t.home(hash))*LineSize
}
