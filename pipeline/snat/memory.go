package snat

// The memory of a pool's ports. A port that is in use or rests takes part of a root, of a block of
// words and of a page; those without such ports are back in the memory.
type (
	// root leads to the others. A pool has one, or none if it has no such port.
	root struct {
		words [1024 / wordsPerBlock]*words
		pages [(1<<16 - FirstPort + portsPerPage - 1) / portsPerPage]*page
	}
	// words is the state of 64 ports each.
	words struct {
		state [wordsPerBlock]struct{ used, ready uint64 } // bit per port
		taken int                                         // ports that are not ready
	}
	// page has a slot for each port, by index among the pool's ports: bound and the table slot of
	// the connection that has the port; of a port that rests, the port released after it.
	page struct {
		slots [portsPerPage]uint32
		taken int // ports that are not ready
	}
)

const (
	wordsPerBlock = 64
	portsPerPage  = 256
	// bound marks the slot of a port that is in use.
	bound = 1 << 31
)

// Memory is the memory that a worker's pools take from and return to. It belongs to the worker's
// goroutine. Nothing is allocated when a pool takes from it: the control plane adds memory before
// it is empty. As long as it is empty, no pool has a free port.
type Memory struct {
	roots store[root]
	words store[words]
	pages store[page]
	grows bool
}

// NewMemory returns an empty Memory. One that grows allocates what it lacks: it is for
// workers that do not forward packets.
func NewMemory(grows bool) *Memory { return &Memory{grows: grows} }

// store has memory of one kind.
type store[T any] struct {
	free  []*T
	added int // in all; free has space for as many
}

func (s *store[T]) take() *T {
	last := len(s.free) - 1
	t := s.free[last]
	s.free = s.free[:last]
	return t
}

func (s *store[T]) give(t *T) { s.free = append(s.free, t) } // never beyond what add has made

// Kinds is the number of kinds of memory.
const Kinds = 3

// kind is a store of any kind.
type kind interface {
	left() int
	capacity() int
	bytes(n int) int
	add(mem []byte)
}

func (s *Memory) kinds() [Kinds]kind { return [Kinds]kind{&s.roots, &s.words, &s.pages} }

func (s *store[T]) left() int     { return len(s.free) }
func (s *store[T]) capacity() int { return s.added }

// reserve is how many of each kind a memory should have besides one for each pool, so that it lasts
// until the control plane looks again: in a quarter of a second a worker opens fewer than two
// million connections, and a page is enough for 256.
const reserve = 8192

// perPool is how much of each kind a pool takes at most.
var perPool = [Kinds]int{1, len(root{}.words), len(root{}.pages)}

// Lacks returns how many bytes of each kind should be added, for so many pools. With one more than
// they can use it is never empty.
func (s *Memory) Lacks(pools int) (bytes [Kinds]int) {
	if pools == 0 {
		return bytes
	}
	for i, k := range s.kinds() {
		most := pools*perPool[i] + 1
		want := min(reserve+pools, most)
		if k.left() < (want+1)/2 && k.capacity() < most {
			bytes[i] = k.bytes(min(want-k.left(), most-k.capacity()))
		}
	}
	return bytes
}

// Add adds memory, which must be zero, to a kind. It must stay valid for as long as pools use it.
func (s *Memory) Add(kind int, mem []byte) { s.kinds()[kind].add(mem) }

// isEmpty reports whether a pool might find no memory for a port.
func (s *Memory) isEmpty() bool {
	if len(s.roots.free) > 0 && len(s.words.free) > 0 && len(s.pages.free) > 0 {
		return false
	}
	if !s.grows {
		return true
	}
	s.roots.free, s.words.free, s.pages.free = append(s.roots.free, new(root)), append(s.words.free, new(words)), append(s.pages.free, new(page))
	return false
}
