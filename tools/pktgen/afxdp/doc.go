// Package afxdp makes the sockets of github.com/asavie/xdp safe to use in a program that must not
// panic or leak:
//
//   - a panic of the library (Transmit panics on every error except EBUSY, such as that of a link
//     that is down) is returned as an error;
//   - Close also unmaps the four rings, which the library does not; while they are mapped, the
//     kernel keeps the socket and its queue;
//   - binding waits for a queue if its last socket has just been closed, because the kernel frees
//     it later;
//   - the library's global bind flags are set and used under a lock, so that two sockets may have
//     different ones;
//   - GetDescs takes time proportional to the number of frames, so a sender has few frames, and a
//     receiver does not call it.
//
// Limits that remain: one system call for each Send, no shared UMEM, and ring indices read without
// barriers, which is correct on amd64 only. A Socket belongs to one goroutine.
package afxdp
