package tx

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// packetOutput sends through an AF_PACKET socket, one system call for each frame, past the queueing
// discipline.
type packetOutput struct {
	fd     int
	buffer []byte
	waits  int // length of the frame in buffer that waits for space in the queue; 0: none
	sent   int // not reported yet
}

func openPacket(ifindex, longest int) (output, error) {
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_PACKET socket, which needs CAP_NET_RAW: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("AF_PACKET socket: %w", err)
	}
	return &packetOutput{fd: fd, buffer: make([]byte, longest)}, nil
}

func (p *packetOutput) send(n int, fill func([]byte) int) (taken int, err error) {
	for taken < n {
		length := p.waits
		if length == 0 {
			length = fill(p.buffer)
		}
		if length == 0 {
			return taken, nil
		}
		p.waits = length
		if full, err := p.write(p.buffer[:length]); full || err != nil {
			return taken, err
		}
		p.waits = 0
		p.sent++
		taken++
	}
	return taken, nil
}

// write returns full if the queue of the interface is full; then the frame is not sent.
func (p *packetOutput) write(frame []byte) (full bool, err error) {
	for {
		switch _, err := unix.Write(p.fd, frame); {
		case err == nil:
			return false, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			return true, nil
		default:
			return false, fmt.Errorf("the kernel doesn't send (is the interface down or gone?): %w", err)
		}
	}
}

func (p *packetOutput) confirm() (int, error) {
	if p.waits > 0 {
		if _, err := p.send(1, func([]byte) int { return 0 }); err != nil {
			return 0, err
		}
	}
	n := p.sent
	p.sent = 0
	return n, nil
}

func (p *packetOutput) pending() int {
	if p.waits > 0 {
		return p.sent + 1
	}
	return p.sent
}

func (p *packetOutput) close() error { return unix.Close(p.fd) }
