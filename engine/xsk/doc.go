// Package xsk opens AF_XDP sockets: one per port and queue, all on one shared memory area of frames
// (UMEM).
//
// # One memory area, many sockets
//
// The kernel has two ways to put several sockets on the same memory. This package uses both:
//
//   - XDP_SHARED_UMEM: a new socket names a bound socket and joins its registration. The kernel
//     pins and accounts the pages once. It keeps the registration for as long as any of the sockets
//     lives, so the first socket may close at any time. But the named socket must be bound when the
//     new one joins: a socket that only registered memory is refused (EBADF), and so is a socket of
//     a deleted interface. A registration therefore cannot be held by a socket without a queue. The
//     joining socket also inherits copy or zero-copy mode and need-wakeup; it cannot choose them.
//   - XDP_UMEM_REG of the same memory once more, on the new socket. The kernel does not check
//     whether the pages are registered already. Frames move between registrations by their address,
//     as they do within one.
//
// A socket joins any live, bound socket of the same mode. If there is none (it is the first socket,
// it has another mode, or the interfaces of all others are gone) it registers the memory for
// itself. Any socket can be closed and opened again in any order while others continue, and ports
// of different modes mix. Locked memory (RLIMIT_MEMLOCK, unless CAP_IPC_LOCK) is charged once per
// registration.
//
// # Where the frames are
//
// A frame is a chunk of FrameSize bytes and is named by the address of the chunk's first byte.
// Refill and Transmit give frames to a socket, Receive and Reclaim return them. The socket keeps
// one bit for each frame that it has. So Close can return all of them, whatever happened to the
// interface, and the socket can refuse frames that it has already and addresses that it never gave
// to the kernel.
//
//	Refill   ─▶ fill ring ─▶ driver ─▶ RX ring         ─▶ Receive
//	Transmit ─▶ TX ring   ─▶ driver ─▶ completion ring ─▶ Reclaim
//
// With a holder of descriptors the bits lie in memory that outlives the process, and so do the
// frames. Then the next process goes on with the bound sockets: see inherit.go.
//
// # System calls
//
// Receiving makes none in copy mode: the driver fills the RX ring from its softirq. Sending makes
// one per Kick where the kernel has XDP_MAX_TX_SKB_BUDGET (Linux 6.17), else one for every 32
// frames. In zero-copy mode calls are made only when the driver asks for them (need-wakeup).
//
// # Goroutines and imports
//
// The package starts no goroutine. A socket's packet path belongs to one worker; what any goroutine
// may call says so. The package imports rings and pipeline/flow, nothing else of Sluice.
//
// Sources: the kernel's Documentation/networking/af_xdp.rst, net/xdp/xsk.c and xdp_umem.c.
package xsk
