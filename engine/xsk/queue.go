package xsk

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// kickTries is how often Kick repeats a call that sent nothing before it leaves the rest for the
// next Kick.
const kickTries = 4

// Counters counts since Open. Frames are in balance at any time:
// Posted - Received + Transmitted - Reclaimed is the number of frames that the socket has.
type Counters struct {
	Posted      uint64 // frames given to the driver for reception
	Received    uint64
	Transmitted uint64 // frames put on the TX ring
	Reclaimed   uint64 // frames that came back sent
	Kicks       uint64 // calls of Kick that had to call the kernel
	Syscalls    uint64 // system calls of all kinds on the packet path
	Faults      uint64 // frames and descriptors refused: not the giver's to give, or impossible
}

// Counters is a copy of the counters. It belongs to the worker.
func (s *Socket) Counters() Counters { return s.counters }

// Ownership says where the socket's frames are. All fields together are the number of frames that
// the socket has.
type Ownership struct {
	Fill       int // on the fill ring
	RxDriver   int // taken by the driver for reception
	RX         int // on the RX ring, received
	TX         int // on the TX ring, not sent
	TxDriver   int // taken by the driver for sending
	Completion int // on the completion ring, sent
}

// Sum is the number of frames that the socket has.
func (o Ownership) Sum() int { return o.Fill + o.RxDriver + o.RX + o.TX + o.TxDriver + o.Completion }

// Owned says where the socket's frames are at this moment. The sum is exact; frames that move from
// one place to the next meanwhile are counted with the driver. It belongs to the worker.
func (s *Socket) Owned() Ownership {
	if s.fd < 0 {
		return Ownership{}
	}
	// Each path is looked at from its end: what moves between two looks is then missed by both, not
	// seen twice.
	var o Ownership
	o.RX = s.rx.Available()
	o.Fill = s.fill.Queued()
	o.RxDriver = int(s.counters.Posted-s.counters.Received) - o.RX - o.Fill
	o.Completion = s.completion.Available()
	o.TX = s.tx.Queued()
	o.TxDriver = int(s.counters.Transmitted-s.counters.Reclaimed) - o.Completion - o.TX
	return o
}

// FD is what poll(2) waits on for received frames and the steering program's map takes; -1 when
// closed. The descriptor stays the socket's.
func (s *Socket) FD() int { return s.fd }

// Receive fills descs from the front with received frames and says how many there were.
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
	return good
}

// Refill gives free frames to the driver for reception and says how many, from the front, it took;
// what remains of those in addrs is scratch. A frame that the socket has already, or that doesn't
// exist, is swallowed and counted: giving it again would have two packets in one frame.
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

// Transmit puts frames on the TX ring and says how many, from the front, it took; it sets their
// Options to 0, which the kernel insists on. It stops before a frame that can't be sent - empty,
// longer than its chunk, or in the socket already - because the kernel would swallow it.
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

// Reclaim fills addrs with chunk start addresses of frames whose transmission is complete and says
// how many.
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
	return good
}

// Kick has the kernel send what Transmit queued; it makes no system call when there is nothing to
// do.
//
// In copy mode it repeats the call until the TX ring is drained or some calls in a row sent
// nothing, because the device or the completion ring is full: the rest waits for the next Kick. In
// zero-copy mode it calls once, and the driver sends on its own. An error means that nothing can be
// sent at present, the interface being down or gone; it is returned by the first Kick that meets
// it, not by those after.
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

// report makes an error of errno, unless the last Kick ended with the same.
func (s *Socket) report(errno unix.Errno) error {
	if errno == s.lastKick {
		return nil
	}
	s.lastKick = errno
	return fmt.Errorf("%s: can't send: %s (sendto: %w)", s, advice(&s.cfg, errno), errno)
}

// wakeOnEmpty is what an empty RX ring may call for: the driver waits to be told that the fill
// ring is no longer empty - it may have begun to wait after Refill last looked - or we are to poll
// the device in its place.
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
