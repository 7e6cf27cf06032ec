package xsk

import "golang.org/x/sys/unix"

// NewShared is NewUMEM for memory that another process can have: who has a copy of its descriptor
// (FD) can map it, also when this process has ended.
func NewShared(frames, node int) (*UMEM, error) { return mapUMEM(frames, node, mapShared) }

func mapShared(bytes int, huge bool) (*UMEM, error) {
	flags := unix.MFD_CLOEXEC
	if huge {
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	}
	fd, err := unix.MemfdCreate("sluice", flags)
	if err != nil {
		return nil, err
	}
	if err = unix.Ftruncate(fd, int64(bytes)); err == nil {
		var mapping []byte
		if mapping, err = unix.Mmap(fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
			return &UMEM{mapping: mapping, fd: fd}, nil
		}
	}
	unix.Close(fd)
	return nil, err
}

// FD returns the descriptor of memory that NewShared made. It belongs to the UMEM.
func (u *UMEM) FD() int { return u.fd }
