package keeper

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxDatagram is the size of the largest message in bytes, as systemd has it.
const maxDatagram = 4096

// maxFiles is the number of descriptors that one message may carry: the kernel's SCM_MAX_FD.
const maxFiles = 253

// socket receives the child's messages.
type socket struct {
	conn     *net.UnixConn
	messages chan message  // from the goroutine that reads
	closed   chan struct{} // by close
}

// message is a datagram: its lines, and descriptors that its receiver owns.
type message struct {
	pid   int // of the sender, as the kernel gives it
	lines []string
	fds   []int
}

// listen makes the socket, with an abstract address (unix(7)): it needs no directory.
func listen() (*socket, error) {
	name := fmt.Sprintf("@sluice-keep-%d", os.Getpid())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("the socket for the daemon's messages: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the socket for the daemon's messages: %w", err)
	}
	s := &socket{conn, make(chan message), make(chan struct{})}
	go s.read()
	return s, nil
}

// close ends the goroutine that reads.
func (s *socket) close() {
	close(s.closed)
	s.conn.Close()
}

// mark sends a message from the keeper to itself: what comes before it was sent before.
func (s *socket) mark() {
	conn, err := net.DialUnix("unixgram", nil, s.conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("MARK=1"))
}

func (s *socket) read() {
	data, control := make([]byte, maxDatagram), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxFiles))
	for {
		n, oob, _, _, err := s.conn.ReadMsgUnix(data, control) // descriptors are close-on-exec
		if err != nil {
			return // closed
		}
		m := message{lines: strings.Split(string(bytes.TrimRight(data[:n], "\n")), "\n")}
		m.attach(control[:oob])
		select {
		case s.messages <- m:
		case <-s.closed:
			m.closeFiles()
			return
		}
	}
}

// attach reads what came beside the text.
func (m *message) attach(control []byte) {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for i := range all {
		if cred, err := unix.ParseUnixCredentials(&all[i]); err == nil {
			m.pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&all[i]); err == nil {
			m.fds = append(m.fds, fds...)
		}
	}
}

// value returns what follows "NAME=" in the message; "" if it has no such line.
func (m *message) value(name string) string {
	for _, line := range m.lines {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return v
		}
	}
	return ""
}

// own are the variables of the protocol: those that the keeper got are not the child's.
var own = []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}

// environment returns the child's environment without its descriptors.
func (s *socket) environment(stuckAfter time.Duration) []string {
	var env []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(own, name) {
			env = append(env, v)
		}
	}
	return append(env, "NOTIFY_SOCKET="+s.conn.LocalAddr().String(), fmt.Sprintf("WATCHDOG_USEC=%d", stuckAfter.Microseconds()))
}
