package afxdp

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"
)

// Frame sizes and numbers. FrameBytes is the chunk size, the longest frame that fits; a sender
// needs only as many frames as fill the ring while the kernel works, because the library's search
// takes time for each of them.
const (
	FrameBytes    = 2048
	senderFrames  = 512
	receiveFrames = 4096
	smallestRing  = 64
)

// KickFrames is the number of frames that the kernel sends for one system call in copy mode
// (TX_BATCH_SIZE in net/xdp/xsk.c): the best size of a Send.
const KickFrames = 32

// longestPause bounds the pauses between attempts to bind, each twice the one before, in which the
// kernel may free a queue.
const longestPause = 640 * time.Millisecond

// flags guards the library's global bind flags.
var flags sync.Mutex

// Mode says how the kernel moves frames between the socket and the device.
type Mode uint8

// The modes.
const (
	Auto     Mode = iota // zero-copy if the driver has it, otherwise copies
	ZeroCopy             // or fail
	Copy
)

var bindFlags = [...]uint16{Auto: 0, ZeroCopy: unix.XDP_ZEROCOPY, Copy: unix.XDP_COPY}

// Socket sends or receives on one queue of one interface.
type Socket struct {
	library *xdp.Socket
	options xdp.SocketOptions
	pending int // passed to the kernel and not confirmed
}

// OpenSender returns a socket that only sends. It opens it in the network namespace of the calling
// thread; the socket may be used from any thread.
func OpenSender(ifindex, queue int, mode Mode) (*Socket, error) {
	return open(ifindex, queue, mode, xdp.SocketOptions{NumFrames: senderFrames, FrameSize: FrameBytes,
		FillRingNumDescs: smallestRing, CompletionRingNumDescs: senderFrames, TxRingNumDescs: senderFrames})
}

// OpenReceiver returns a socket that only receives, with all its frames given to the kernel. The
// caller's XDP program must redirect to FD.
func OpenReceiver(ifindex, queue int, mode Mode) (*Socket, error) {
	s, err := open(ifindex, queue, mode, xdp.SocketOptions{NumFrames: receiveFrames, FrameSize: FrameBytes,
		FillRingNumDescs: receiveFrames, CompletionRingNumDescs: smallestRing, RxRingNumDescs: receiveFrames})
	if err == nil {
		s.library.Fill(s.library.GetDescs(receiveFrames))
	}
	return s, err
}

func open(ifindex, queue int, mode Mode, options xdp.SocketOptions) (*Socket, error) {
	flags.Lock()
	defer flags.Unlock()
	before := xdp.DefaultSocketFlags
	defer func() { xdp.DefaultSocketFlags = before }()
	xdp.DefaultSocketFlags = bindFlags[mode]
	// Each failed attempt of the library leaks mappings, so there are few attempts.
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		library, err := xdp.NewSocket(ifindex, queue, &options)
		if err == nil {
			return &Socket{library: library, options: options}, nil
		}
		// The library formats errors into text and loses the error value.
		if !strings.Contains(err.Error(), unix.EBUSY.Error()) || pause > longestPause {
			return nil, fmt.Errorf("AF_XDP socket on queue %d: %w%s", queue, err, advice(err))
		}
		time.Sleep(pause)
	}
}

// advice returns what to do about an error.
func advice(err error) string {
	for _, known := range []struct {
		errno  unix.Errno
		advice string
	}{
		{unix.EBUSY, ": another program has a socket on this queue"},
		{unix.EPERM, ": run as root, or with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF"},
		{unix.ENOBUFS, ": raise the limit on locked memory (ulimit -l), or give CAP_IPC_LOCK"},
		{unix.EOPNOTSUPP, ": the driver doesn't do this mode"},
		{unix.EINVAL, ": is there such a queue?"},
	} {
		if strings.Contains(err.Error(), known.errno.Error()) {
			return known.advice
		}
	}
	return ""
}

// FD returns the file descriptor, for poll and for the socket map of an XDP program.
func (s *Socket) FD() int { return s.library.FD() }

// Send calls fill for at most n frames and passes them to the kernel. fill writes one frame into
// the chunk and returns its length, or 0 for no more frames. Send returns how many frames it
// passed: fewer than n if the ring is full. On an error they are passed, too, but may never be
// confirmed.
func (s *Socket) Send(n int, fill func([]byte) int) (given int, err error) {
	descs := s.library.GetDescs(min(n, s.library.NumFreeTxSlots()))
	for i := range descs {
		length := fill(s.library.GetFrame(descs[i]))
		if length == 0 {
			descs = descs[:i]
			break
		}
		descs[i].Len = uint32(length)
	}
	s.pending += len(descs)
	return len(descs), s.transmit(descs)
}

// transmit turns a panic of the library into an error. The library puts the frames on the ring
// before it can panic.
func (s *Socket) transmit(descs []xdp.Desc) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the kernel doesn't send (is the interface down or gone?): %v", p)
		}
	}()
	s.library.Transmit(descs)
	return nil
}

// Confirm returns how many frames the kernel has confirmed as sent since the last call.
func (s *Socket) Confirm() int {
	n := s.library.NumCompleted()
	s.library.Complete(n)
	s.pending -= n
	return n
}

// Pending returns the number of frames that the kernel has and has not confirmed.
func (s *Socket) Pending() int { return s.pending }

// Kick makes the kernel continue with the frames that it has.
func (s *Socket) Kick() error { return s.transmit(nil) }

// Receive calls take for each received frame and returns the chunks to the kernel. take must not
// retain the frame.
func (s *Socket) Receive(take func([]byte)) {
	descs := s.library.Receive(s.library.NumReceived())
	for _, desc := range descs {
		take(s.library.GetFrame(desc))
	}
	s.library.Fill(descs) // always fits: the ring has an entry for each chunk
}

// Close closes the socket and releases everything that the kernel holds for it.
func (s *Socket) Close() error {
	rings := ringsOf(s.library, s.options)
	err := s.library.Close()
	for _, r := range rings {
		err = errors.Join(err, r.unmap())
	}
	return err
}
