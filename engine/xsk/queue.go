package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// kickTries is how often Kick repeats a call that sent nothing. Then it leaves the rest to the next
// Kick.
const kickTries = 4

// Counters counts events since Open. Frames are in balance at any time: Posted - Received +
// Transmitted - Reclaimed is the number of frames that the socket has.
type Counters struct {
	Posted      uint64 // frames given to the driver for reception
	Received    uint64
	Transmitted uint64 // frames put on the TX ring
	Reclaimed   uint64 // frames returned after sending
	Kicks       uint64 // calls of Kick that had to call the kernel
	Syscalls    uint64 // system calls of all kinds on the packet path
	Faults      uint64 // frames and descriptors refused: impossible, or not owned by the giver
}

// Counters returns a copy of the counters. Only the worker may call it.
func (s *Socket) Counters() Counters { return s.counters }

// Ownership is where the socket's frames are. The sum of all fields is the number of frames that
// the socket has.
type Ownership struct {
	Fill       int // on the fill ring
	RxDriver   int // taken by the driver for reception
	RX         int // on the RX ring, received
	TX         int // on the TX ring, not sent
	TxDriver   int // taken by the driver for sending
	Completion int // on the completion ring, sent
}

// Sum returns the number of frames that the socket has.
func (o Ownership) Sum() int { return o.Fill + o.RxDriver + o.RX + o.TX + o.TxDriver + o.Completion }

// Owned returns where the socket's frames are now. The sum is exact; a frame that moves during the
// call is counted with the driver. Only the worker may call it.
func (s *Socket) Owned() Ownership {
	if s.fd < 0 {
		return Ownership{}
	}
	// Each path is read from its end. A frame that moves between two reads is then missed by both,
	// not counted twice.
	var o Ownership
	o.RX = s.rx.Available()
	o.Fill = s.fill.Queued()
	o.RxDriver = int(s.counters.Posted-s.counters.Received) - o.RX - o.Fill
	o.Completion = s.completion.Available()
	o.TX = s.tx.Queued()
	o.TxDriver = int(s.counters.Transmitted-s.counters.Reclaimed) - o.Completion - o.TX
	return o
}

// FD returns the file descriptor, for poll(2) and for the map of the steering program; -1 if the
// socket is closed. The socket still owns it.
func (s *Socket) FD() int { return s.fd }

// Receive fills descs from the front with received frames and returns how many there were.
func (s *Socket) Receive(descs []rings.Desc) int {
	n := s.rx.Pop(descs)
	if n == 0 {
		s.wakeOnEmpty()
		return 0
	}
	good := 0
	for _, d := range descs[:n] {
		if d.Addr%FrameSize+uint64(d.Len) > FrameSize || !s.owned.remove(d.Addr) {
			s.counters.Faults++
			continue
		}
		descs[good] = d
		good++
	}
	s.counters.Received += uint64(good)
	if s.missing != nil {
		s.missing.returned(descs[:good])
	}
	return good
}

// Refill gives free frames to the driver for reception and returns how many it accepted, from the
// front. The contents of addrs are undefined afterwards. A frame that the socket has already, or
// that does not exist, is dropped and counted in Faults: giving it twice would put two packets into
// one frame.
func (s *Socket) Refill(addrs []uint64) int {
	n := min(len(addrs), s.fill.Free())
	good := 0
	for _, a := range addrs[:n] {
		if !s.owned.add(a) {
			s.counters.Faults++
			continue
		}
		addrs[good] = a &^ (FrameSize - 1)
		good++
	}
	s.counters.Posted += uint64(s.fill.Push(addrs[:good]))
	if good > 0 && s.fill.NeedWakeup() {
		_ = s.call(unix.SYS_RECVFROM)
	}
	return n
}

// Transmit puts frames on the TX ring and returns how many it accepted, from the front. It sets
// their Options to 0, as the kernel requires. It stops before a frame that cannot be sent (empty,
// longer than its chunk, or in the socket already), because the kernel would lose it.
func (s *Socket) Transmit(descs []rings.Desc) int {
	n := min(len(descs), s.tx.Free())
	for i := range descs[:n] {
		d := &descs[i]
		if d.Len == 0 || d.Addr%FrameSize+uint64(d.Len) > FrameSize || !s.owned.add(d.Addr) {
			s.counters.Faults++
			n = i
			break
		}
		d.Options = 0
	}
	s.counters.Transmitted += uint64(s.tx.Push(descs[:n]))
	return n
}

// Reclaim fills addrs with the chunk start addresses of frames that have been sent, or that a
// former process has lost, and returns how many there were.
func (s *Socket) Reclaim(addrs []uint64) int {
	n := s.completion.Pop(addrs)
	good := 0
	for _, a := range addrs[:n] {
		if !s.owned.remove(a) {
			s.counters.Faults++
			continue
		}
		addrs[good] = a &^ (FrameSize - 1)
		good++
	}
	s.counters.Reclaimed += uint64(good)
	if s.missing != nil {
		good = s.reclaimLost(addrs, good)
	}
	return good
}

// Kick makes the kernel send what Transmit queued. It makes no system call when nothing is to be
// done.
//
// In copy mode it repeats the call until the TX ring is empty or kickTries calls in a row sent
// nothing, because the device or the completion ring is full. The rest waits for the next Kick. In
// zero-copy mode it makes one call, and the driver sends on its own. An error means that nothing
// can be sent at present because the interface is down or gone. The first Kick that meets it
// returns it; later ones return nil until the state changes.
func (s *Socket) Kick() error {
	queued := s.tx.Queued()
	if queued == 0 || s.fd < 0 || !s.tx.NeedWakeup() {
		return nil
	}
	s.counters.Kicks++
	for tries := 0; tries < kickTries; {
		errno := s.call(unix.SYS_SENDTO)
		switch errno {
		case 0, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS, unix.ENOMEM, unix.EINTR:
		default:
			return s.report(errno)
		}
		left := s.tx.Queued()
		if left == 0 || errno == 0 && s.zeroCopy {
			break
		}
		if tries++; left < queued {
			queued, tries = left, 0
		}
	}
	s.lastKick = 0
	return nil
}

// report returns an error for errno, or nil if the last Kick failed with the same.
func (s *Socket) report(errno unix.Errno) error {
	if errno == s.lastKick {
		return nil
	}
	s.lastKick = errno
	return fmt.Errorf("%s: cannot send: %s (sendto: %w)", s, advice(&s.cfg, errno), errno)
}

// wakeOnEmpty makes the system call that an empty RX ring may need. With need-wakeup the driver
// waits for a call after the fill ring is no longer empty, and may have begun to wait after Refill
// last checked. With busy polling the worker polls the device itself.
func (s *Socket) wakeOnEmpty() {
	if s.fd >= 0 && (s.busyPoll || s.fill.NeedWakeup() && s.fill.Queued() > 0) {
		_ = s.call(unix.SYS_RECVFROM)
	}
}

// call makes a system call that moves no bytes and only wakes the driver.
func (s *Socket) call(number uintptr) unix.Errno {
	s.counters.Syscalls++
	_, _, errno := unix.Syscall6(number, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}
