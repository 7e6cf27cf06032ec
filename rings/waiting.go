package rings

import "sync/atomic"

// Waiting returns a copy of the entries that the ring's producer has put and its consumer has not
// taken. It is for the end of ours that takes the ring over; the kernel may move its own index
// meanwhile. It returns nil if the indices are inconsistent.
func (m Memory[T]) Waiting() []T {
	next, end := atomic.LoadUint32(m.Consumer), atomic.LoadUint32(m.Producer)
	size := uint32(len(m.Entries))
	if end-next > size {
		return nil
	}
	entries := make([]T, 0, end-next)
	for ; next != end; next++ {
		entries = append(entries, m.Entries[next&(size-1)])
	}
	return entries
}

// Index returns how many entries this end has put on the ring since it was made, modulo 2^32.
func (r *ToKernel[T]) Index() uint32 { return r.next }

// Index returns how many entries this end has taken from the ring since it was made, modulo 2^32.
func (r *FromKernel[T]) Index() uint32 { return r.next }
