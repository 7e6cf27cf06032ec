package xsk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// NewShared is NewUMEM for memory that another process can have: who has a copy of its descriptor
// (FD) can map it, also when this process has ended.
func NewShared(frames, node int) (*UMEM, error) { return mapUMEM(frames, node, mapShared) }

// NewLasting is NewShared for frames of which the next process can take over the sockets, with
// Inherit, if it has copies of both descriptors: so many sockets at most.
// Without reserved huge pages access costs more than to memory of NewUMEM, which the kernel merges
// into huge ones: see mapUMEM.
func NewLasting(frames, sockets int) (*UMEM, error) {
	u, err := NewShared(frames, -1)
	if err != nil {
		return nil, err
	}
	if u.state, err = newState(frames, sockets); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	u.Live()
	return u, nil
}

func mapShared(bytes int, huge bool) (*UMEM, error) {
	flags := unix.MFD_CLOEXEC
	if huge {
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	}
	fd, err := unix.MemfdCreate("sluice", flags)
	if err != nil {
		return nil, err
	}
	u := &UMEM{fd: fd}
	if err = unix.Ftruncate(fd, int64(bytes)); err == nil {
		err = u.mapAll(bytes)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return u, nil
}

// mapAll maps the memory behind the descriptor.
func (u *UMEM) mapAll(bytes int) (err error) {
	u.mapping, err = unix.Mmap(u.fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

// FD returns the descriptor of memory that NewShared made. It belongs to the UMEM.
func (u *UMEM) FD() int { return u.fd }

// StateFD returns the descriptor of what NewLasting made beside the frames. It belongs to the UMEM.
func (u *UMEM) StateFD() int { return u.state.fd }
