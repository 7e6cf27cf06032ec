package xsk

import (
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// FrameSize is the size of a chunk in bytes: the page size, beyond which the kernel doesn't go.
	FrameSize = 4096
	// Headroom is how many bytes the kernel leaves free in front of a received frame
	// (XDP_PACKET_HEADROOM): room for an encapsulation header.
	Headroom = unix.XDP_PACKET_HEADROOM
	// MaxMTU is the largest MTU whose frames, with Ethernet header and one VLAN tag, fit a chunk.
	MaxMTU = FrameSize - Headroom - ethernetBytes - vlanBytes

	ethernetBytes = 14
	vlanBytes     = 4
	hugeBytes     = 2 << 20
	// maxFrames keeps the memory within 1 TiB, far beyond any machine this runs on.
	maxFrames = 1 << 28
)

// UMEM is the memory of all frames of all ports and queues. Its methods may be called from any
// goroutine; its bytes belong to whoever owns the frame they lie in.
type UMEM struct {
	mapping []byte // whole huge pages, if huge
	mem     []byte // frames * FrameSize
	huge    bool

	mu      sync.Mutex
	sockets []*Socket // open ones, to share the kernel's registration with
}

// NewUMEM maps memory for a number of frames, on huge pages of 2 MiB if enough of them are free,
// else on plain pages that the kernel is asked to merge into huge ones. Plain pages come when they
// are first touched; see Fill. All lie on that NUMA node if it has room; -1: wherever the thread
// runs that touches them first. It fails if there is not enough memory.
func NewUMEM(frames, node int) (*UMEM, error) {
	if frames < 1 || frames > maxFrames {
		return nil, fmt.Errorf("UMEM of %d frames: allowed are 1 to %d", frames, maxFrames)
	}
	bytes := frames * FrameSize
	rounded := (bytes + hugeBytes - 1) &^ (hugeBytes - 1)
	const access, private = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	mapping, err := unix.Mmap(-1, 0, rounded, access, private|unix.MAP_HUGETLB|unix.MAP_HUGE_2MB)
	if err == nil {
		u := &UMEM{mapping: mapping, mem: mapping[:bytes:bytes], huge: true}
		prefer(mapping, node)
		if u.Fill(nil) == nil {
			return u, nil
		}
		_ = unix.Munmap(mapping) // some are free, and not for us
	}
	mapping, err = unix.Mmap(-1, 0, rounded, access, private)
	if err != nil {
		return nil, fmt.Errorf("UMEM of %d frames: mapping %d MiB: %w", frames, rounded>>20, err)
	}
	prefer(mapping, node)
	// Merging is a wish: a kernel without transparent huge pages refuses it, and nothing is lost
	// but speed.
	_ = unix.Madvise(mapping, unix.MADV_HUGEPAGE)
	return &UMEM{mapping: mapping, mem: mapping[:bytes:bytes]}, nil
}

// Mem is all frames, one behind the other. It must not be used after Close.
func (u *UMEM) Mem() []byte { return u.mem }

// Frames is the number of frames.
func (u *UMEM) Frames() int { return len(u.mem) / FrameSize }

// Fill has the kernel put pages under all of the memory, while others use it already: to clear one
// of 2 MiB takes the kernel a fifth of a millisecond, and some milliseconds where a hypervisor has
// to find it first, and a worker that met one every now and then would keep its packets waiting for
// so long. It ends early when stop is closed; Close must not be called before it has ended.
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

// HugePages says whether the memory lies on reserved huge pages. If not, `sysctl vm.nr_hugepages`
// was too low, and lookups in frames cost more TLB misses: worth a log line.
func (u *UMEM) HugePages() bool { return u.huge }

// Close unmaps the memory. It fails, and does nothing, while sockets on it are open; closing twice
// is fine.
func (u *UMEM) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sockets) > 0 {
		return fmt.Errorf("UMEM: %d sockets are still open, the first on %s", len(u.sockets), u.sockets[0])
	}
	if u.mapping == nil {
		return nil
	}
	err := unix.Munmap(u.mapping)
	u.mapping, u.mem = nil, nil
	return err
}

// forget takes a closing socket off the list, so that none tries to join it.
func (u *UMEM) forget(s *Socket) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.sockets, s); i >= 0 {
		u.sockets = slices.Delete(u.sockets, i, i+1)
	}
}
