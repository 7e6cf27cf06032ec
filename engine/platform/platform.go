// Package platform defines what the engine stands on: Platform for the control plane, Queue for the
// packet path. Package platform/linux implements both with the kernel, package enginetest with
// memory.
//
// The package holds interfaces and values. It starts no goroutine and owns nothing. It imports only
// what its signatures name, and must not import worker or engine, which use it.
package platform

import (
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice/conf"
	"sluice/engine/health/truepath"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// Platform gives the engine CPUs, queues, memory, routes and steering. The control plane calls it,
// unless a method's comment names the worker. Only the queues that it opens are on the packet path.
type Platform interface {
	// Cores returns the CPU of each worker, given the configured ones; nil stands for the default.
	Cores(configured []int) ([]int, error)
	// Follow calls publish with the surroundings (links, routes, neighbours, own addresses) once
	// before it returns, and then after each change until Close. It makes one call at a time.
	// publish must not block.
	Follow(ports []conf.Port, publish func(*route.Snapshot)) error
	// Open opens the ports' queues for this number of workers. Frames may arrive from then on.
	Open(ports []conf.Port, workers int) (*Hardware, error)
	// ClosePort closes the queues of a port that has lost its interface, and returns the frames
	// they had. No worker uses the queues any longer.
	ClosePort(port int) (frames []uint64, err error)
	// OpenPort opens the same queues of the new interface of the same name.
	OpenPort(port int) (*HardwarePort, error)
	// Restore steers an open port's frames to its queues again if another process has ended that.
	// lost says how: "detached" or "replaced"; "": none had.
	Restore(port int) (lost string, err error)
	// Memory returns zeroed memory, aligned to pages, on huge pages if there are enough, near the
	// CPU that will use it. It is valid until Close. If the platform is a Keeper, the next process
	// has it by its name.
	Memory(name string, bytes, core int) ([]byte, error)
	// Steer sets which packets go to the queues.
	Steer(steer.Rules) error
	// Source returns this host's address towards dst, for the outer header of a tunnel; the zero
	// Addr if it has none.
	Source(dst netip.Addr) netip.Addr
	// LocalPortRange returns the ports from which the host's kernel chooses for its own
	// connections.
	LocalPortRange() service.Ports
	// Resolve asks for the neighbour behind the address to be resolved, soon. It does not block.
	Resolve(netip.Addr)
	// SetNeighbours sets the addresses that are to be resolved at all times.
	SetNeighbours([]netip.Addr)
	// Steering returns what happens to an open port's frames before they reach a queue. A worker
	// of the port calls it.
	Steering(port int) (Steering, error)
	// Outcomes returns what became of all frames that a port has received, by the steering's own
	// count: of a port that is closed, what it was at last. Any goroutine may call it.
	Outcomes(port int) (steer.Counters, error)
	// Stats returns what the platform counts for a queue. The queue's worker calls it.
	Stats(port, queue int) QueueStats
	// Close frees everything. The workers have stopped.
	Close() error
}

// Detourer is a Platform on which health checks can take the path of tun and dr.
type Detourer interface {
	// Detour makes the device for them and redirects answers to these ports there.
	Detour(ports service.Ports) (*truepath.Detour, error)
}

// Keeper is a Platform with memory that can outlive the process, also if that is killed: package
// estate.
type Keeper interface {
	// Former returns what the former process had, by the names given to Memory and Keep, to be read
	// only, until EndFormer. A process that has not kept Complete was not one.
	Former() map[string][]byte
	// Counters is Memory for counters: on pages that become memory when they are written.
	Counters(name string, bytes int) ([]byte, error)
	// EndFormer frees what Former returned.
	EndFormer() error
	// Keep keeps a copy of data under a name. If the process is killed meanwhile, the next has the
	// copy or what was kept before under the name.
	Keep(name string, data []byte) error
}

// Complete is the name of what a process keeps when the next one can go on from what it has.
const Complete = "numbers"

// Heir is a Platform that can go on with the queues of a former process, which was killed.
type Heir interface {
	// Inherited returns what Open has found; nil: nothing.
	Inherited() *Inherited
}

// Leaver is a Platform that another process can take the place of while this one still runs.
type Leaver interface {
	// Leave stops writing to what outlives the process, and calls give, which gives all of it to
	// the other process. After an error everything is as before. No worker runs.
	Leave(give func() error) error
}

// Inherited is what was found of a former process's queues.
type Inherited struct {
	Err       error         // why they were opened again; then the rest is 0
	Queues    int           // that go on
	Away      time.Duration // since the former process lived
	Received  int           // frames that had been received
	Discarded bool          // because they had waited for too long
	Sending   int           // frames for transmission
	Repaired  int           // frames that were neither on a ring nor free
}

// Injector is a Platform on which the kernel can be given packets that are its own.
type Injector interface {
	// Inject makes the device for them.
	Inject() (Device, error)
}

// Device is an interface of this host. The kernel receives each IP packet that is written to it,
// with one call of Write, from there. Write does not block.
type Device interface {
	io.WriteCloser
	Name() string
}

// Hardware is what Open opened.
type Hardware struct {
	UMEM  []byte   // whole chunks of FrameSize, an equal number for each worker
	Held  []uint64 // chunks that the queues have already, one bit per chunk; nil: none
	Ports []HardwarePort
}

// HardwarePort is one port's queues.
type HardwarePort struct {
	Name    string
	Ifindex int    // 0: the interface is gone and the queues are closed
	IO      string // zerocopy, copy or generic
	Queues  []HardwareQueue
	RSS     *flow.RSS // how the card chooses the queue, read when the port was opened; nil: unknown
}

// HardwareQueue is one queue with its number at the port.
type HardwareQueue struct {
	Queue
	Number  int
	Sending int // frames for transmission that it has already
	// RxIndex and TxIndex are how far its RX ring was read and its TX ring filled, by former
	// processes, modulo 2^32. GoesOn: the queue is one that a former process had.
	RxIndex, TxIndex uint32
	GoesOn           bool
	// Heartbeat is where the queue's worker stores the time, in ns of CLOCK_MONOTONIC, at least
	// each 100 ms: see steer.Port. It is valid until the port is closed. nil: nothing needs it.
	Heartbeat *atomic.Int64
}

// QueueStats is what the kernel counts for a queue (struct xdp_statistics,
// include/uapi/linux/if_xdp.h), and the number of frames on its rings.
type QueueStats struct {
	RxDropped, RxInvalid, TxInvalid, RxRingFull, FillRingEmpty, TxRingEmpty uint64

	Fill, Rx, Tx, Completion uint64 // frames on each ring
	Syscalls                 uint64
}

// Steering is what happens to a port's frames before they reach one of its queues.
type Steering struct {
	Queues   int    // RX queues that the interface has now
	NoSocket uint64 // frames for a service that were dropped because their queue is not open
	NoWorker uint64 // and those because the queue's worker gave no heartbeat
}
