// Package afxdp makes the sockets of github.com/asavie/xdp safe to use in a program that must not
// fall over:
//
//   - what the library panics with (Transmit on anything but a busy device, such as a link that
//     went down) comes back as an error;
//   - Close also unmaps the four rings, which the library forgets; while they are mapped, the
//     kernel keeps the socket and its queue;
//   - binding waits for a queue whose last socket has just been closed, because the kernel frees it
//     later;
//   - the library's global bind flags are set and used under a lock, so that two sockets may have
//     different ones;
//   - of what the library does in time proportional to the number of frames (GetDescs), a sender
//     has few frames, and a receiver gives back just the descriptors that it got.
//
// What remains: one system call for each Send, no shared UMEM, and ring indices read without
// barriers, which is right on amd64 only. A Socket belongs to one goroutine.
package afxdp
