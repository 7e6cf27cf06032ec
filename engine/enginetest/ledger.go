package enginetest

import (
	"fmt"
	"sync"
	"sync/atomic"

	"sluice/engine/platform"
)

// owner is the owner of a chunk.
type owner uint32

const (
	engineOwns owner = iota // free, in a batch, or on its way between workers
	onFill
	onRx
	onTx
	onCompletion
)

var ownerNames = [...]string{"the engine", "a fill ring", "an RX ring", "a TX ring", "a completion ring"}

// ledger has the owner of every chunk of a UMEM.
type ledger struct {
	chunks []atomic.Uint32 // owner of each

	mu     sync.Mutex
	broken []string // what the engine did wrong
}

// move changes the owner of the chunk at addr, which may be anywhere in it. It reports whether the
// chunk had the owner from.
func (l *ledger) move(addr uint64, from, to owner) bool {
	i := addr / platform.FrameSize
	if i >= uint64(len(l.chunks)) {
		l.breach("frame at %#x, beyond the UMEM", addr)
		return false
	}
	if l.chunks[i].CompareAndSwap(uint32(from), uint32(to)) {
		return true
	}
	l.breach("chunk %d cannot move from %s to %s: it belongs to %s", i, ownerNames[from], ownerNames[to], ownerNames[l.chunks[i].Load()])
	return false
}

func (l *ledger) breach(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.broken) < 20 {
		l.broken = append(l.broken, fmt.Sprintf(format, args...))
	}
}

// breaches returns the engine's errors so far.
func (l *ledger) breaches() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.broken...)
}

// count returns how many chunks an owner has.
func (l *ledger) count(o owner) (n uint64) {
	for i := range l.chunks {
		if owner(l.chunks[i].Load()) == o {
			n++
		}
	}
	return n
}
