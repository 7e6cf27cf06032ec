package loops

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"sluice/engine/cpu"
)

// l2fwd moves frames from one socket of the library to another one, in both directions, as the
// library's example does: it fills both fill rings with what is free, waits in poll, copies each
// frame into one of the other socket's, transmits, and completes when poll says that there is
// something to complete. Sockets have the library's default sizes. Unlike the example it checks
// every 100 ms whether it has to end, and also writes the source address.
type l2fwd struct {
	program *xdp.Program
	in, out *xdp.Socket
	ifindex int
	macs    [12]byte
	stats   Counters
}

func newL2fwd(c Config) (*l2fwd, error) {
	if err := cpu.Pin(c.CPU); err != nil {
		return nil, err
	}
	l := &l2fwd{}
	copy(l.macs[:6], c.To)
	copy(l.macs[6:], c.Source)
	if err := l.open(c); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *l2fwd) open(c Config) error {
	in, err := net.InterfaceByName(c.In)
	if err != nil {
		return fmt.Errorf("interface %s: %w", c.In, err)
	}
	out, err := net.InterfaceByName(c.Out)
	if err != nil {
		return fmt.Errorf("interface %s: %w", c.Out, err)
	}
	if l.program, err = xdp.NewProgram(1); err != nil {
		return err
	}
	if err := l.program.Attach(in.Index); err != nil {
		return err
	}
	l.ifindex = in.Index
	if l.in, err = openWaiting(in.Index); err != nil {
		return err
	}
	if l.out, err = openWaiting(out.Index); err != nil {
		return err
	}
	return l.program.Register(0, l.in.FD())
}

// openWaiting retries for a while, because the kernel frees a queue some time after its last socket
// has been closed.
func openWaiting(ifindex int) (*xdp.Socket, error) {
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		s, err := xdp.NewSocket(ifindex, 0, nil)
		if err == nil || pause > time.Second {
			return s, err
		}
		time.Sleep(pause)
	}
}

// lookMs is how often an idle loop checks whether it has to end.
const lookMs = 100

func (l *l2fwd) turn(<-chan struct{}) error {
	for _, s := range []*xdp.Socket{l.in, l.out} {
		s.Fill(s.GetDescs(s.NumFreeFillSlots()))
	}
	poll := [2]unix.PollFd{pollFd(l.in), pollFd(l.out)}
	l.stats.Syscalls++
	if _, err := unix.Poll(poll[:], lookMs); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	pair := [2]*xdp.Socket{l.in, l.out}
	for i, from := range pair {
		if poll[i].Revents&unix.POLLIN != 0 {
			l.forward(from, pair[1-i])
		}
		if poll[i].Revents&unix.POLLOUT != 0 {
			from.Complete(from.NumCompleted())
		}
	}
	return nil
}

// pollFd polls for free space in the TX ring only while frames are in flight.
func pollFd(s *xdp.Socket) unix.PollFd {
	p := unix.PollFd{Fd: int32(s.FD()), Events: unix.POLLIN}
	if s.NumTransmitted() > 0 {
		p.Events |= unix.POLLOUT
	}
	return p
}

// forward copies received frames to the other socket. Frames that do not fit in its TX ring are
// lost.
func (l *l2fwd) forward(from, to *xdp.Socket) {
	received := from.Receive(from.NumReceived())
	free := to.GetDescs(to.NumFreeTxSlots())
	l.stats.Turns++
	l.stats.Frames += uint64(len(received))
	n := min(len(received), len(free))
	for i, d := range received[:n] {
		frame := from.GetFrame(d)
		copy(frame, l.macs[:])
		free[i].Len = uint32(copy(to.GetFrame(free[i]), frame))
	}
	to.Transmit(free[:n])
	l.stats.Syscalls++
	l.stats.Sent += uint64(n)
}

func (l *l2fwd) counters() (Counters, error) { return l.stats, nil }

func (l *l2fwd) close() error {
	var errs []error
	if l.program != nil {
		if l.ifindex != 0 {
			errs = append(errs, l.program.Detach(l.ifindex))
		}
		errs = append(errs, l.program.Close())
	}
	for _, s := range []*xdp.Socket{l.in, l.out} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
