package cpu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Sleeper lets one thread wait in poll(2) for file descriptors to become readable, or for Wake.
type Sleeper struct {
	event int
	fds   []unix.PollFd
}

// NewSleeper returns a Sleeper without file descriptors.
func NewSleeper() (*Sleeper, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	s := &Sleeper{event: fd}
	s.Watch(nil)
	return s, nil
}

// Watch replaces the descriptors that end a sleep; negative ones are ignored. Only the sleeping
// thread may call it.
func (s *Sleeper) Watch(fds []int) {
	s.fds = append(s.fds[:0], unix.PollFd{Fd: int32(s.event), Events: unix.POLLIN})
	for _, fd := range fds {
		s.fds = append(s.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
}

// Sleep waits until a descriptor is readable, Wake was called since the last Sleep, or timeoutMs
// milliseconds have passed. A descriptor that reports an error is ignored until the next Watch,
// because it would end every sleep at once. Signals may end a sleep early.
func (s *Sleeper) Sleep(timeoutMs int) {
	if n, err := unix.Poll(s.fds, timeoutMs); n <= 0 || err != nil {
		return
	}
	if s.fds[0].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(s.event, count[:])
	}
	for i := range s.fds[1:] {
		fd := &s.fds[1+i]
		if fd.Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 && fd.Revents&unix.POLLIN == 0 {
			fd.Fd = -1
		}
	}
}

// Wake ends the current or the next Sleep. Any goroutine may call it, until Close.
func (s *Sleeper) Wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// The counter overflows only after 2^64-1 wakes without a sleep.
	_, _ = unix.Write(s.event, one[:])
}

// Close closes the event descriptor. No goroutine may call Wake or Sleep afterwards.
func (s *Sleeper) Close() error {
	if s.event < 0 {
		return errors.New("the sleeper is already closed")
	}
	err := unix.Close(s.event)
	s.event = -1
	return err
}
