package platform

import "sluice/rings"

// Queue is one RX/TX queue pair of a port: an AF_XDP socket (engine/xsk) or memory
// (engine/enginetest). One worker owns it and calls it from its goroutine only.
//
// Frames are named by chunk start addresses or by descriptors; a chunk is FrameSize bytes. They are
// owned as follows: Refill gives frames to the queue and Receive gives them back filled; Transmit
// gives frames to the queue and Reclaim gives them back sent.
type Queue interface {
	// Receive fills descs with received frames and returns their number.
	Receive(descs []rings.Desc) int
	// Refill gives free frames to the driver for reception. It returns how many, from the front,
	// the driver accepted.
	Refill(addrs []uint64) int
	// Transmit puts frames on the TX ring. It returns how many, from the front, had a slot.
	Transmit(descs []rings.Desc) int
	// Kick makes the driver send the frames on the TX ring. It makes no system call when there are
	// none. After an error, which is to be logged, the frames stay on the ring and a later Kick
	// tries again.
	Kick() error
	// Reclaim fills addrs with frames that were transmitted and returns their number.
	Reclaim(addrs []uint64) int
	// FD returns the file descriptor that poll(2) waits on for received frames, -1 if there is
	// none.
	FD() int
}

// FrameSize is the size of a UMEM chunk in bytes. It holds a frame of an MTU of 1500 and more, the
// 256 bytes that the kernel leaves free in front, and its skb_shared_info behind.
const FrameSize = 4096
