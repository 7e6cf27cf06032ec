// Package xsk opens AF_XDP sockets: one per port and queue, all on one shared memory of frames
// (UMEM).
//
// # One memory, many sockets
//
// The kernel knows two ways to put several sockets on the same memory, and this package uses both:
//
//   - XDP_SHARED_UMEM: a new socket names a bound one and joins its registration. The kernel pins
//     and accounts the pages once and keeps the registration for as long as any socket lives, so
//     the first socket may close at any time. But the named socket must be bound at that moment: a
//     socket that only registered memory is refused (EBADF), and so is one whose interface was
//     deleted. There can be no dedicated keeper of the registration without a queue of its own. The
//     joining socket also inherits copy or zero-copy and need-wakeup; it can't choose.
//   - XDP_UMEM_REG of the same memory once more, on the new socket. The kernel neither knows nor
//     minds that the pages are registered already; frames move between registrations by their
//     address alike.
//
// So a socket joins any live, bound socket of the same mode, and where there is none - the first
// one, another mode, or all the others' interfaces are gone - registers for itself. Any socket can
// be closed and opened again in any order while others go on, and ports of different modes mix.
// Locked memory (RLIMIT_MEMLOCK, unless CAP_IPC_LOCK) is charged once per registration.
//
// # Where the frames are
//
// A frame is a chunk of FrameSize bytes and named by the chunk's first byte. Refill and Transmit
// give frames to a socket, Receive and Reclaim give them back; the socket keeps one bit for each
// that it has. So it can tell which frames come free when it is closed, whatever became of its
// interface, and can refuse frames that it has already, and addresses that it never gave to the
// kernel.
//
//	Refill   ─▶ fill ring ─▶ driver ─▶ RX ring         ─▶ Receive
//	Transmit ─▶ TX ring   ─▶ driver ─▶ completion ring ─▶ Reclaim
//
// # System calls
//
// Receiving makes none in copy mode: the driver fills the RX ring from its softirq. Sending makes
// one per Kick where the kernel has XDP_MAX_TX_SKB_BUDGET (Linux 6.17), else one for every 32
// frames. In zero-copy mode calls are made only when the driver asks for them (need-wakeup).
package xsk
