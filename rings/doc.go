// Package rings holds the bounded queues that frames travel in, and with them all memory ordering
// of the project: no other package pairs an atomic store with a load to hand over data.
//
// Terminology
//
//   - A ring is an array of 2^k slots and two indices that only grow. The producer's index counts
//     what was ever put in, the consumer's what was ever taken out; index & (2^k - 1) is the slot.
//   - The producer writes slots first and its index afterwards (publish); the consumer reads the
//     index first and slots afterwards, then moves its own index (release), which gives the slots
//     back.
//   - Each index has one writer for life. A side reads the other's index only when the copy it kept
//     from last time doesn't suffice, so that a busy ring moves one cache line per batch, not per
//     entry.
//
// # Which ring is for what
//
//	          Producer   SPSC[T]    Consumer        between two workers: hand-over, free frames
//	worker ─▶ FillRing        ─▶ kernel             chunks to receive into   (uint64 addresses)
//	worker ◀─ RxRing          ◀─ kernel             received frames          (Desc)
//	worker ─▶ TxRing          ─▶ kernel             frames to send           (Desc)
//	worker ◀─ CompletionRing  ◀─ kernel             chunks that were sent    (uint64 addresses)
//
// An SPSC lives on Go's heap and its indices are 64 bits wide: they never wrap. The four others
// live in memory that the kernel shares (include/uapi/linux/if_xdp.h); their indices are 32 bits
// wide and wrap, which unsigned subtraction takes in its stride.
//
// # Ordering
//
// Everything uses sync/atomic, which is sequentially consistent and so at least acquire for loads
// and release for stores; that is what the kernel's side of the shared rings expects
// (net/xdp/xsk_queue.h). It also orders "publish, then look whether the kernel wants a wake-up",
// which acquire and release alone would not. On amd64 an atomic store is an XCHG of some twenty
// cycles: hence batches, and one publication per batch.
package rings
