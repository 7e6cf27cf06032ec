// Package rings has the bounded queues that pass frames between owners, and with them all memory
// ordering of the project: no other package pairs an atomic store with a load to hand over data.
//
// Terminology
//
//   - A ring is an array of 2^k slots and two indices that only grow. The producer's index counts
//     what was ever put in, the consumer's what was ever taken out; index & (2^k - 1) is the slot.
//   - The producer writes slots first and its index afterwards (publish); the consumer reads the
//     index first and slots afterwards, then moves its own index (release), which frees the slots.
//   - Each index has one writer. A side reads the other's index only if its copy from last time
//     does not suffice, so that a busy ring moves one cache line per batch, not per entry.
//
// # The rings
//
//	         Producer   SPSC[T]    Consumer        between two workers: hand-over, free frames
//	worker ─▶ FillRing        ─▶ kernel             chunks to receive into   (uint64 addresses)
//	worker ◀─ RxRing          ◀─ kernel             received frames          (Desc)
//	worker ─▶ TxRing          ─▶ kernel             frames to send           (Desc)
//	worker ◀─ CompletionRing  ◀─ kernel             chunks that were sent    (uint64 addresses)
//
// An SPSC is on Go's heap and its indices have 64 bits: they never wrap. The four others are in
// memory that the kernel shares (include/uapi/linux/if_xdp.h); their indices have 32 bits and wrap,
// which unsigned subtraction handles.
//
// # Ordering
//
// Everything uses sync/atomic, which is sequentially consistent and so at least acquire for loads
// and release for stores; that is what the kernel's side of the shared rings expects
// (net/xdp/xsk_queue.h). It also orders "publish, then read whether the kernel needs a wake-up",
// which acquire and release alone would not. On amd64 an atomic store is an XCHG of about twenty
// cycles: hence batches, and one publication per batch.
package rings
