// Package tx sends frames by one of three backends:
//
//   - Live: the kernel's test-run of an XDP program on live frames. The program makes the frames,
//     so that no frame crosses into the kernel: several million frames per second from one CPU. It
//     keeps that CPU busy also when the rate is low, and paces frame by frame. A veth takes such
//     frames only if its peer has an XDP program or GRO.
//   - XSK: an AF_XDP socket of github.com/asavie/xdp. On veth it needs nothing at the peer.
//   - Packet: an AF_PACKET socket. Slow, and works everywhere.
//
// All three send the same frames in the same order for the same Traffic; XSK and Packet can send
// those of any other Source, too, such as a capture file.
//
// # What was sent
//
// Counts.Frames is what left for the interface: runs of the program that ended in XDP_TX, frames
// that the AF_XDP socket's completion ring confirms, or frames that sendto accepted. The interface
// may still drop a frame: package port reads its drop counter.
package tx
