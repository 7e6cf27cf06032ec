package xsk

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// Mode is how frames pass between driver and UMEM.
type Mode uint8

const (
	// Copy makes the kernel copy each frame once. It works with every driver, and with XDP in the
	// driver (native) as well as in the network stack (generic).
	Copy Mode = iota
	// ZeroCopy makes the device read and write the UMEM itself. The driver must support it.
	ZeroCopy
)

func (m Mode) String() string {
	if m == ZeroCopy {
		return "zerocopy"
	}
	return "copy"
}

const (
	// defaultRing is the number of entries of a ring if Config gives none.
	defaultRing = 2048
	maxRing     = 1 << 16
	// defaultBusyWait is how long Open waits for a busy queue by default. A socket that was just
	// closed, by this process or a killed one, frees its queue some milliseconds later.
	defaultBusyWait = 2 * time.Second
	busyPause       = 5 * time.Millisecond
)

// Config describes the socket to open.
type Config struct {
	Ifindex int    // of an interface in the calling thread's network namespace
	Ifname  string // for messages
	Queue   int    // RX and TX queue, from 0
	UMEM    *UMEM

	// Entries of each ring: powers of two up to 65536, 0 means 2048.
	RX, TX, Fill, Completion int

	Mode Mode
	// The driver tells when it must be woken; turned off only for measurements.
	NeedWakeup bool
	BusyWait   time.Duration // how long to wait for a busy queue; 0: 2 s, below 0: not at all
	BusyPoll   BusyPoll
}

// BusyPoll makes the worker's own system calls do the driver's work in place of interrupts
// (SO_PREFER_BUSY_POLL, Linux 5.11), which keeps both on one CPU. It helps only if the interface's
// napi_defer_hard_irqs and gro_flush_timeout are set, too. The zero value turns it off.
type BusyPoll struct {
	Usec   int // microseconds one call may poll (SO_BUSY_POLL); 20 is usual
	Budget int // packets one call may process (SO_BUSY_POLL_BUDGET); 64 is usual
}

// Socket is an AF_XDP socket with its four rings. Except where noted, only the owning worker may
// call its methods; none allocates, none blocks, and only Close may run at the same time as Close.
type Socket struct {
	fill       *rings.FillRing
	completion *rings.CompletionRing
	rx         *rings.RxRing
	tx         *rings.TxRing
	owned      ownedFrames
	counters   Counters
	fd         int // -1 when closed
	busyPoll   bool
	zeroCopy   bool
	lastKick   unix.Errno     // error of the last Kick, so that it is reported once
	missing    *missingFrames // since the socket was taken over; nil: none

	cfg        Config
	registered bool // has its own registration of the UMEM
	place      int  // in the UMEM's state; -1: none
	inherited  bool // taken over

	mu   sync.Mutex // serializes Close and Statistics
	maps [][]byte   // the rings' mappings
}

// Open makes a socket, waits for its queue if it is busy, and binds it. Nothing arrives before
// frames are given with Refill and the steering program redirects to FD.
//
// The calling thread must be in the interface's network namespace; afterwards the socket works from
// any thread. Errors are of type *OpenError; ErrModeUnsupported says when to try another mode.
func Open(cfg Config) (*Socket, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := checkLink(cfg); err != nil {
		return nil, err
	}
	s := &Socket{cfg: cfg, fd: -1}
	s.owned, s.place = cfg.UMEM.newOwned(&cfg)
	if err := s.open(); err != nil {
		_, _ = s.Close()
		return nil, err
	}
	return s, nil
}

// complete sets defaults and checks what can be checked without the kernel.
func (cfg *Config) complete() error {
	if cfg.UMEM == nil || cfg.UMEM.mem == nil {
		return fmt.Errorf("%s queue %d: the UMEM is missing or closed", cfg.Ifname, cfg.Queue)
	}
	if cfg.Queue < 0 {
		return fmt.Errorf("%s queue %d: queues are numbered from 0", cfg.Ifname, cfg.Queue)
	}
	for name, size := range map[string]*int{"RX": &cfg.RX, "TX": &cfg.TX, "fill": &cfg.Fill, "completion": &cfg.Completion} {
		if *size == 0 {
			*size = defaultRing
		}
		if *size < 1 || *size > maxRing || *size&(*size-1) != 0 {
			return fmt.Errorf("%s queue %d: %s ring of %d entries; allowed: powers of two up to %d",
				cfg.Ifname, cfg.Queue, name, *size, maxRing)
		}
	}
	if cfg.BusyWait == 0 {
		cfg.BusyWait = defaultBusyWait
	}
	return nil
}

func (s *Socket) open() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return s.cfg.fail("socket", err)
	}
	s.fd = fd
	if err := s.setOptions(); err != nil {
		return err
	}
	m, err := s.mapRings()
	if err != nil {
		return err
	}
	if err := s.useRings(m); err != nil {
		return err
	}
	if err := s.bind(); err != nil {
		return err
	}
	// TX budget and send buffer matter for speed only, and not every kernel and user may set them.
	// By default the kernel sends at most 32 frames per call and lets some 200 KiB of frames be in
	// flight.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, s.cfg.TX)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, s.cfg.TX*2*FrameSize)

	return s.readMode()
}

// readMode reads which mode the kernel uses.
func (s *Socket) readMode() error {
	flags, err := getsockoptXDP[uint32](s.fd, unix.XDP_OPTIONS)
	if err != nil {
		return s.cfg.fail("XDP_OPTIONS", err)
	}
	s.zeroCopy = flags&unix.XDP_OPTIONS_ZEROCOPY != 0
	return nil
}

// option is a socket option with its name in messages.
type option struct {
	name                 string
	level, option, value int
}

// setOptions sets ring sizes and busy polling.
func (s *Socket) setOptions() error {
	err := s.set([]option{
		{"RX ring", unix.SOL_XDP, unix.XDP_RX_RING, s.cfg.RX},
		{"TX ring", unix.SOL_XDP, unix.XDP_TX_RING, s.cfg.TX},
		{"fill ring", unix.SOL_XDP, unix.XDP_UMEM_FILL_RING, s.cfg.Fill},
		{"completion ring", unix.SOL_XDP, unix.XDP_UMEM_COMPLETION_RING, s.cfg.Completion},
	})
	if err != nil || s.cfg.BusyPoll == (BusyPoll{}) {
		return err
	}
	return s.setBusyPoll()
}

// setBusyPoll turns busy polling on or off.
func (s *Socket) setBusyPoll() error {
	prefer := 0
	if s.busyPoll = s.cfg.BusyPoll != (BusyPoll{}); s.busyPoll {
		prefer = 1
	}
	return s.set([]option{
		{"SO_PREFER_BUSY_POLL", unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, prefer},
		{"SO_BUSY_POLL", unix.SOL_SOCKET, unix.SO_BUSY_POLL, s.cfg.BusyPoll.Usec},
		{"SO_BUSY_POLL_BUDGET", unix.SOL_SOCKET, unix.SO_BUSY_POLL_BUDGET, s.cfg.BusyPoll.Budget},
	})
}

func (s *Socket) set(options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, o.level, o.option, o.value); err != nil {
			return s.cfg.fail(o.name, err)
		}
	}
	return nil
}

// ringMemory is the memory of a socket's rings.
type ringMemory struct {
	fill, completion rings.Memory[uint64]
	rx, tx           rings.Memory[rings.Desc]
}

// mapRings maps the four rings. Kernels before 6.4 allow it only before bind.
func (s *Socket) mapRings() (m ringMemory, err error) {
	off, err := getsockoptXDP[unix.XDPMmapOffsets](s.fd, unix.XDP_MMAP_OFFSETS)
	if err != nil {
		return m, s.cfg.fail("XDP_MMAP_OFFSETS", err)
	}
	var errs [4]error
	m.fill, errs[0] = mapRing[uint64](s, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, s.cfg.Fill)
	m.completion, errs[1] = mapRing[uint64](s, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, s.cfg.Completion)
	m.rx, errs[2] = mapRing[rings.Desc](s, unix.XDP_PGOFF_RX_RING, off.Rx, s.cfg.RX)
	m.tx, errs[3] = mapRing[rings.Desc](s, unix.XDP_PGOFF_TX_RING, off.Tx, s.cfg.TX)
	if err := errors.Join(errs[:]...); err != nil {
		return m, s.cfg.fail("map rings", err)
	}
	return m, nil
}

func mapRing[T uint64 | rings.Desc](s *Socket, page int64, off unix.XDPRingOffset, n int) (rings.Memory[T], error) {
	mem, err := unix.Mmap(s.fd, page, int(rings.MapBytes[T](off, n)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return rings.Memory[T]{}, err
	}
	s.maps = append(s.maps, mem)
	return rings.Map[T](mem, off, n)
}

func (s *Socket) useRings(m ringMemory) error {
	var err [4]error
	s.fill, err[0] = rings.NewToKernel(m.fill)
	s.completion, err[1] = rings.NewFromKernel(m.completion)
	s.rx, err[2] = rings.NewFromKernel(m.rx)
	s.tx, err[3] = rings.NewToKernel(m.tx)
	if err := errors.Join(err[:]...); err != nil {
		return s.cfg.fail("rings", err)
	}
	return nil
}

// bind binds the socket to its queue and waits a bounded time while the queue is busy.
func (s *Socket) bind() error {
	for deadline := time.Now().Add(s.cfg.BusyWait); ; time.Sleep(busyPause) {
		step, err := s.bindOnce()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return s.cfg.fail(step, err)
		}
	}
}

// bindOnce joins the registration of another socket or, if it cannot, registers the UMEM again, and
// binds. It returns the step that failed.
func (s *Socket) bindOnce() (step string, err error) {
	u := s.cfg.UMEM
	u.mu.Lock()
	defer u.mu.Unlock()
	addr := unix.SockaddrXDP{Ifindex: uint32(s.cfg.Ifindex), QueueID: uint32(s.cfg.Queue)}
	if !s.registered {
		addr.Flags = unix.XDP_SHARED_UMEM
		for _, peer := range u.sockets {
			if !s.mayJoin(peer) {
				continue
			}
			addr.SharedUmemFD = uint32(peer.fd)
			err := unix.Bind(s.fd, &addr)
			if errors.Is(err, unix.EBADF) {
				continue // the peer's interface is gone, so it is no longer bound
			}
			if err == nil {
				u.sockets = append(u.sockets, s)
			}
			return "bind", err
		}
		if err := registerUMEM(s.fd, u.mem); err != nil {
			return "register UMEM", err
		}
		s.registered = true
	}
	addr.SharedUmemFD, addr.Flags = 0, unix.XDP_COPY
	if s.cfg.Mode == ZeroCopy {
		addr.Flags = unix.XDP_ZEROCOPY
	}
	if s.cfg.NeedWakeup {
		addr.Flags |= unix.XDP_USE_NEED_WAKEUP
	}
	if err := unix.Bind(s.fd, &addr); err != nil {
		return "bind", err
	}
	u.sockets = append(u.sockets, s)
	return "", nil
}

// mayJoin reports whether joining the peer's registration gives this socket its configured mode. A
// peer on the same queue (left over from a deleted interface) is excluded: the kernel would share
// its rings.
func (s *Socket) mayJoin(peer *Socket) bool {
	a, b := &s.cfg, &peer.cfg
	return a.Mode == b.Mode && a.NeedWakeup == b.NeedWakeup && (a.Ifindex != b.Ifindex || a.Queue != b.Queue)
}

// Mode returns the mode that the kernel uses. Any goroutine may call it.
func (s *Socket) Mode() Mode {
	if s.zeroCopy {
		return ZeroCopy
	}
	return Copy
}

// String returns the interface and the queue. Any goroutine may call it.
func (s *Socket) String() string { return fmt.Sprintf("%s queue %d", s.cfg.Ifname, s.cfg.Queue) }

// Close unmaps the rings and closes the socket. (The kernel keeps a socket and its queue while the
// rings are mapped.) It returns the chunk start addresses of all frames that the socket had: posted
// for reception, received but not read, queued for sending, or sent but not reclaimed. The caller
// owns them again. A second Close returns none.
//
// In copy mode the frames may be used at once. In zero-copy mode the device may write to them until
// the kernel has taken the queue down, some milliseconds later and at the latest when a new socket
// on the queue opens.
//
// The worker must have stopped using the socket. After Close its methods do nothing.
func (s *Socket) Close() (frames []uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, nil
	}
	s.cfg.UMEM.forget(s)
	s.closeRings()
	err = unix.Close(s.fd)
	s.fd = -1
	frames, s.owned, s.missing = s.owned.addrs(), ownedFrames{}, nil
	s.cfg.UMEM.freePlace(s.place)
	return frames, err
}

// closeRings unmaps the rings and replaces them by rings that are empty where this side consumes
// and full where it produces. A late call then does nothing, where it would otherwise touch
// unmapped memory.
func (s *Socket) closeRings() {
	for _, m := range s.maps {
		_ = unix.Munmap(m)
	}
	s.maps = nil
	fill, tx := rings.NewMemory[uint64](1), rings.NewMemory[rings.Desc](1)
	*fill.Producer, *tx.Producer = 1, 1
	_ = s.useRings(ringMemory{fill, rings.NewMemory[uint64](1), rings.NewMemory[rings.Desc](1), tx})
}
