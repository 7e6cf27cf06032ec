package xsk

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// FrameSize is the size of a chunk in bytes: the page size, the kernel's limit.
	FrameSize = 4096
	// Headroom is how many bytes the kernel leaves free in front of a received frame
	// (XDP_PACKET_HEADROOM), enough for an encapsulation header.
	Headroom = unix.XDP_PACKET_HEADROOM
	// MaxMTU is the largest MTU of which frames, with Ethernet header and one VLAN tag, fit a
	// chunk.
	MaxMTU = FrameSize - Headroom - ethernetBytes - vlanBytes

	ethernetBytes = 14
	vlanBytes     = 4
	hugeBytes     = 2 << 20
	// maxFrames limits the memory to 1 TiB, far more than any machine has.
	maxFrames = 1 << 28
)

// UMEM is the memory of all frames of all ports and queues. Any goroutine may call its methods.
// Each frame's bytes belong to the owner of the frame.
type UMEM struct {
	mapping []byte // whole huge pages, if huge
	mem     []byte // frames * FrameSize
	huge    bool
	fd      int    // of the memory; -1: no other process can have it
	state   *state // nil: no other process can take over its sockets

	mu      sync.Mutex
	sockets []*Socket // open sockets; a new one may join their registration
}

// NewUMEM maps memory for a number of frames. It uses huge pages of 2 MiB if enough of them are
// free, else plain pages that the kernel is asked to merge into huge ones. Plain pages are
// allocated when they are first touched; see Fill. All lie on the NUMA node if it has enough
// memory; -1 means the node of the thread that touches them first. It fails if there is not enough
// memory.
func NewUMEM(frames, node int) (*UMEM, error) { return mapUMEM(frames, node, mapPrivate) }

// mapUMEM is NewUMEM for memory that mapMemory maps, on huge pages or plain ones.
func mapUMEM(frames, node int, mapMemory func(bytes int, huge bool) (*UMEM, error)) (*UMEM, error) {
	if frames < 1 || frames > maxFrames {
		return nil, fmt.Errorf("UMEM of %d frames: allowed: 1 to %d", frames, maxFrames)
	}
	bytes := frames * FrameSize
	rounded := roundUp(bytes)
	u, err := mapMemory(rounded, true)
	if err == nil {
		u.huge = true
		prefer(u.mapping, node)
		if err = u.Fill(nil); err != nil {
			_ = u.Close() // some are free, but this process may not use them
		}
	}
	if err != nil {
		if u, err = mapMemory(rounded, false); err != nil {
			return nil, fmt.Errorf("UMEM of %d frames: mapping %d MiB: %w", frames, rounded>>20, err)
		}
		prefer(u.mapping, node)
		// Merging is optional: without transparent huge pages only speed is lost. For memory that
		// processes share, shmem_enabled decides.
		_ = unix.Madvise(u.mapping, unix.MADV_HUGEPAGE)
	}
	u.mem = u.mapping[:bytes:bytes]
	return u, nil
}

// roundUp returns the bytes of whole huge pages.
func roundUp(bytes int) int { return (bytes + hugeBytes - 1) &^ (hugeBytes - 1) }

func mapPrivate(bytes int, huge bool) (*UMEM, error) {
	flags := unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	if huge {
		flags |= unix.MAP_HUGETLB | unix.MAP_HUGE_2MB
	}
	mapping, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, err
	}
	return &UMEM{mapping: mapping, fd: -1}, nil
}

// Mem returns all frames, one after the other. It must not be used after Close.
func (u *UMEM) Mem() []byte { return u.mem }

// Frames returns the number of frames.
func (u *UMEM) Frames() int { return len(u.mem) / FrameSize }

// Fill makes the kernel allocate all pages of the memory; workers may use it at the same time. The
// kernel needs a fifth of a millisecond to clear a page of 2 MiB, and some milliseconds where a
// hypervisor has to find it first. A worker that allocated a page on first use would delay its
// packets by that time. Fill ends early when stop is closed; Close must not be called before it has
// returned.
func (u *UMEM) Fill(stop <-chan struct{}) error {
	for rest := u.mapping; len(rest) > 0; rest = rest[hugeBytes:] {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := unix.Madvise(rest[:hugeBytes], unix.MADV_POPULATE_WRITE); err != nil {
			return fmt.Errorf("filling %d MiB of memory: %w", len(u.mapping)>>20, err)
		}
	}
	return nil
}

// HugePages reports whether the memory lies on reserved huge pages. If not, `sysctl
// vm.nr_hugepages` was too low, and access to frames costs more TLB misses; callers should log
// that.
func (u *UMEM) HugePages() bool { return u.huge }

// Close unmaps the memory. While sockets on it are open it fails and does nothing. A second Close
// does nothing.
func (u *UMEM) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sockets) > 0 {
		return fmt.Errorf("UMEM: %d sockets are still open, the first is %s", len(u.sockets), u.sockets[0])
	}
	err := u.state.close()
	if u.mapping != nil {
		err = errors.Join(err, unix.Munmap(u.mapping))
	}
	if u.fd >= 0 {
		err = errors.Join(err, unix.Close(u.fd))
	}
	u.mapping, u.mem, u.state, u.fd = nil, nil, nil, -1
	return err
}

// forget removes a closing socket from the list, so that no other tries to join it.
func (u *UMEM) forget(s *Socket) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.sockets, s); i >= 0 {
		u.sockets = slices.Delete(u.sockets, i, i+1)
	}
}
