// Package platform is what the engine stands on, as interfaces: Platform for the control plane, Queue
// for the packet path. Package platform/linux implements them with the kernel, package enginetest with
// memory. Nothing in it runs: it starts no goroutine and owns nothing. It imports only what its
// signatures name; packages worker and engine, which use it, are not among that.
package platform

import (
	"net/netip"

	"sluice/conf"
	"sluice/engine/health/truepath"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// Platform is what the engine stands on: the kernel (platform/linux), or memory in tests
// (engine/enginetest). Everything in it is called by the control plane; only the queues it opens
// meet the packet path.
type Platform interface {
	// Cores says which CPU each worker takes, one after the other, from those configured; nil: the
	// default.
	Cores(configured []int) ([]int, error)
	// Watch delivers the surroundings - links, routes, neighbours, own addresses - once before it
	// returns and from then on whenever they change, one call at a time, until Close. publish must
	// not block.
	Watch(ports []conf.Port, publish func(*route.Snapshot)) error
	// Open takes the ports' queues for so many workers. Frames may arrive from then on.
	Open(ports []conf.Port, workers int) (*Hardware, error)
	// ClosePort gives up the port's queues, whose interface is gone, and returns the frames they
	// had. The workers use them no more.
	ClosePort(port int) (frames []uint64, err error)
	// OpenPort takes the same queues of the new interface of the same name.
	OpenPort(port int) (*HardwarePort, error)
	// Memory gives zeroed memory, aligned to pages, on huge pages where there are any, near the CPU
	// that will use it, until Close.
	Memory(bytes, core int) ([]byte, error)
	// Steer says which packets are to come to the queues.
	Steer(steer.Rules) error
	// Source is our own address towards dst, for the outer header of a tunnel; the zero Addr if
	// there is none.
	Source(dst netip.Addr) netip.Addr
	// KernelPorts is what the host's kernel takes local ports from for connections of its own.
	KernelPorts() service.Ports
	// Want asks for the neighbour behind these addresses to be resolved, soon; it doesn't block.
	Want(netip.Addr)
	// Keep names the addresses whose neighbours shall be known at all times.
	Keep([]netip.Addr)
	// Steering tells what becomes of an open port's frames before they reach a queue. Called by a
	// worker of the port.
	Steering(port int) (Steering, error)
	// Stats tells what only the platform knows of a queue. Called by the queue's worker.
	Stats(port, queue int) QueueStats
	// Close gives everything back. The workers have stopped.
	Close() error
}

// Detourer is a Platform on which health checks can take the path of tun and dr.
type Detourer interface {
	// Detour makes the device for them, and has answers to what the ports send redirected there.
	Detour(ports service.Ports) (*truepath.Detour, error)
}

// Hardware is what Open took.
type Hardware struct {
	UMEM  []byte // whole chunks of FrameSize, an equal number for each worker
	Ports []HardwarePort
}

// QueueForEach says whether every port has a queue for each of so many workers.
func (h *Hardware) QueueForEach(workers int) bool {
	for i := range h.Ports {
		if len(h.Ports[i].Queues) < workers {
			return false
		}
	}
	return true
}

// HardwarePort is one port's queues.
type HardwarePort struct {
	Name    string
	Ifindex int    // 0: the interface is gone and the queues are closed
	IO      string // zerocopy, copy or generic: what was had
	Queues  []HardwareQueue
	RSS     *flow.RSS // by which the card chooses the queue, read when it was opened; nil: it doesn't tell
}

// HardwareQueue is one queue with its number at the port.
type HardwareQueue struct {
	Queue
	Number int
}

// QueueStats is what the kernel counts for a queue (struct xdp_statistics,
// include/uapi/linux/if_xdp.h), and who owns its frames.
type QueueStats struct {
	RxDropped, RxInvalid, TxInvalid, RxRingFull, FillRingEmpty, TxRingEmpty uint64

	Fill, Rx, Tx, Completion uint64 // frames on each ring
	Syscalls                 uint64
}

// Steering tells what becomes of a port's frames before they reach a queue of ours.
type Steering struct {
	Queues   int    // RX queues that the interface has now
	NoSocket uint64 // frames for a service that were dropped because they came to a queue that is not ours
}
