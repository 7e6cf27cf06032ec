package conn

import "unsafe"

// pointer is an address in a table's memory.
type pointer = unsafe.Pointer

// entry4 and entry6 are the two layouts in memory. Both begin with the Conn, so that everything but
// key comparison works on either. Sizes are pinned below: two entry4 or one entry6 fill a cache
// line.
type entry4 struct {
	Conn
	ends uint64 // backend's and, in the lower half, client's address
}

type entry6 struct {
	Conn
	client    [2]uint64
	backendHi uint64
	_         [8]byte // lineBits
	backendLo uint64
}

func (e *entry4) client() uint32 { return uint32(e.ends) }

var (
	_ [32]byte = [unsafe.Sizeof(entry4{})]byte{}
	_ [64]byte = [unsafe.Sizeof(entry6{})]byte{}
	_ [7]byte  = [lineBitsAt - unsafe.Offsetof(entry6{}.backendHi) - 5]byte{} // in the gap
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

// line4 returns a line of an IPv4 table.
func (t *Table) line4(home Home) *[2]entry4 {
	return (*[2]entry4)(unsafe.Add(t.base, uintptr(home)*LineSize))
}

// lineBitsAt is where the bits of a line are: where the second slot of an IPv4 line has no use for
// over, and in an IPv6 line between the halves of the backend's address.
const lineBitsAt = unsafe.Sizeof(entry4{}) + unsafe.Offsetof(Conn{}.over)

// lineBits returns the bits of a line: see second_home.go.
func (t *Table) lineBits(line uint32) *uint8 {
	return (*uint8)(unsafe.Add(t.base, uintptr(line)*LineSize+lineBitsAt))
}

func (t *Table) entry6(slot uint32) *entry6 {
	return (*entry6)(unsafe.Add(t.base, uintptr(slot)<<6))
}

// has reports whether the entry is in this table.
func (t *Table) has(c *Conn) bool {
	return uintptr(unsafe.Pointer(c))-uintptr(t.base) < uintptr(len(t.mem))
}

// slotOf is the inverse of conn.
func (t *Table) slotOf(c *Conn) uint32 {
	return uint32((uintptr(unsafe.Pointer(c)) - uintptr(t.base)) >> t.slotShift)
}

// due returns the first slot of from to to-1 with Expires before late, to if there is none. This is
// most of the work of a sweep, and few slots are due: it checks four at a time.
//
// nocheckptr: the end of the table is an address that another allocation may begin at.
//
//go:nocheckptr
func (t *Table) due(from, to, late uint32) uint32 {
	size := uintptr(1) << (t.slotShift & 7)
	p, end := unsafe.Pointer(t.conn(from)), unsafe.Pointer(t.conn(to))
	for ; uintptr(p)+3*size < uintptr(end); p = unsafe.Add(p, 4*size) {
		a, b := (*Conn)(p).Expires-late, (*Conn)(unsafe.Add(p, size)).Expires-late
		c, d := (*Conn)(unsafe.Add(p, 2*size)).Expires-late, (*Conn)(unsafe.Add(p, 3*size)).Expires-late
		if int32(a|b|c|d) < 0 {
			break
		}
	}
	for uintptr(p) < uintptr(end) && int32((*Conn)(p).Expires-late) >= 0 {
		p = unsafe.Add(p, size)
	}
	return t.slotOf((*Conn)(p))
}

// Fetch loads a home line into the cache of the CPU. The misses of a batch of calls overlap, since
// no load waits for another. v4 and v6 are the tables; home is one of either.
//
// A prefetch instruction, in assembly, would be the obvious way. Measured on EPYC (Zen 4) in a
// virtual machine, PREFETCHT0, T1 and NTA left most lines unfetched: lookups among 100,000 flows
// took twice as long as after these loads. A CPU may drop a prefetch, but never a load.
//
// The result has no meaning. The caller must use it, so that the compiler keeps the load.
func Fetch(v4, v6 *Table, home Home) uint64 {
	return *(*uint64)(homeLine(v4, v6, home))
}

// FetchNext is Fetch for the line after a home line, if entries of the home may be there.
func FetchNext(v4, v6 *Table, home Home) uint64 {
	line := homeLine(v4, v6, home)
	if (*Conn)(line).over == 0 {
		return 0
	}
	return *(*uint64)(unsafe.Add(line, LineSize))
}

// FetchForInsert is Fetch for the line after a home line, if the home line has no free slot or its
// over count is not 0.
func FetchForInsert(v4, v6 *Table, home Home) uint64 {
	line, second := homeLine(v4, v6, home), LineSize/2
	if home&home6 != 0 {
		second = 0 // the line has one slot
	}
	first := (*Conn)(line)
	if first.over == 0 && (first.key == 0 || (*Conn)(unsafe.Add(line, second)).key == 0) {
		return 0
	}
	return *(*uint64)(unsafe.Add(line, LineSize))
}

// homeLine returns the address of a home line.
func homeLine(v4, v6 *Table, home Home) unsafe.Pointer {
	base := v4.base
	if home&home6 != 0 {
		base = v6.base
	}
	return unsafe.Add(base, uintptr(home&^home6)*LineSize)
}
