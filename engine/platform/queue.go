package platform

import "sluice/rings"

// Queue is one RX/TX queue pair of a port: an AF_XDP socket (engine/xsk) or memory
// (engine/enginetest). One worker owns it and calls it from its goroutine only.
//
// Frames are named by chunk start addresses or by descriptors; a chunk is FrameSize bytes. They are
// owned as follows: Refill gives frames to the queue and Receive gives them back filled; Transmit
// gives frames to the queue and Reclaim gives them back sent.
type Queue interface {
	// Receive fills descs from the front with received frames and says how many there were.
	Receive(descs []rings.Desc) int
	// Refill hands free frames to the driver for reception and says how many, from the front, it
	// took.
	Refill(addrs []uint64) int
	// Transmit puts frames on the TX ring and says how many, from the front, it took.
	Transmit(descs []rings.Desc) int
	// Kick tells the driver to send what Transmit queued; it makes no system call when there is
	// nothing to do. After an error, which is worth a log line, frames stay queued and a later Kick
	// tries again.
	Kick() error
	// Reclaim fills addrs with frames whose transmission is complete and says how many there were.
	Reclaim(addrs []uint64) int
	// FD is what poll(2) waits on for received frames, -1 if there is none.
	FD() int
}

// FrameSize is the size of a UMEM chunk in bytes: room for an MTU of 1500 and more, for the 256
// bytes that the kernel leaves in front, and for its skb_shared_info behind.
const FrameSize = 4096
