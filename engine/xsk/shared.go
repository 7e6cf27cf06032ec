package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NewShared is NewUMEM for memory that another process can have: who has a copy of its descriptor
// (FD) can map it, also when this process has ended.
func NewShared(frames, node int) (*UMEM, error) {
	if frames < 1 || frames > maxFrames {
		return nil, fmt.Errorf("memory of %d frames: allowed: 1 to %d", frames, maxFrames)
	}
	bytes := frames * FrameSize
	rounded := (bytes + hugeBytes - 1) &^ (hugeBytes - 1)
	u, err := mapShared(rounded, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err == nil {
		u.huge = true
		prefer(u.mapping, node)
		if err = u.Fill(nil); err != nil {
			_ = u.Close() // some huge pages are free, but this process may not use them
		}
	}
	if err != nil {
		if u, err = mapShared(rounded, 0); err != nil {
			return nil, fmt.Errorf("memory of %d MiB that outlives the process: %w", rounded>>20, err)
		}
		prefer(u.mapping, node)
		// see NewUMEM; whether the kernel may merge this memory, shmem_enabled decides
		_ = unix.Madvise(u.mapping, unix.MADV_HUGEPAGE)
	}
	u.mem = u.mapping[:bytes:bytes]
	return u, nil
}

func mapShared(bytes, flags int) (*UMEM, error) {
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC|flags)
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
