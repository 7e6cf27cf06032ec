// Package estate keeps what must outlive the process: descriptors, by name, with systemd's file
// descriptor store or with `sluice keep`. The next process of the daemon gets them back. The
// package knows no descriptor's meaning.
//
// What is stored keeps a kernel object alive: an XDP program stays attached while a copy of its
// link exists. So a process that ends as planned removes what it stored; one that is killed leaves
// all of it to the next.
//
// A Store may be used from any goroutine. The package starts none. Sources: sd_notify(3),
// sd_listen_fds(3), systemd.service(5) on FileDescriptorStoreMax.
package estate

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the holder of this process's descriptors.
type Store struct {
	socket string // of the holder; "": there is none
	former *Former
	mu     sync.Mutex
	left   map[string]int // descriptors of the former process that no one has taken, by name
	held   map[string]int // copies of what the holder has, for a successor
}

// firstFD is the first descriptor that a holder passes on (SD_LISTEN_FDS_START).
const firstFD = 3

// Open returns the store with what the former process left. It reads the environment, and removes
// what it has read: it is called once in a process, before others are started.
func Open() *Store {
	s := &Store{socket: os.Getenv("NOTIFY_SOCKET"), left: make(map[string]int), held: make(map[string]int)}
	if s.former = openFormer(); s.former != nil {
		return s
	}
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		n = 0 // for another process
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		unix.CloseOnExec(firstFD + i)
		if i >= len(names) || s.left[names[i]] != 0 {
			unix.Close(firstFD + i) // of no use without a name of its own
			continue
		}
		s.left[names[i]] = firstFD + i
	}
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} {
		os.Unsetenv(name)
	}
	return s
}

// HasHolder reports whether something holds descriptors for this process.
func (s *Store) HasHolder() bool { return s.socket != "" }

// Take returns a descriptor that the former process has put under this name, which the caller owns
// from then on; ok is false if there is none. The holder keeps its copy.
func (s *Store) Take(name string) (fd int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd, ok = s.left[name]
	delete(s.left, name)
	if ok {
		s.hold(name, fd)
	}
	return fd, ok
}

// hold keeps a copy of a descriptor that the holder has, in place of any other. The caller holds
// mu.
func (s *Store) hold(name string, fd int) {
	s.drop(name)
	if own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFD); err == nil {
		s.held[name] = own
	}
}

// drop closes the copy of this name. The caller holds mu.
func (s *Store) drop(name string) {
	if fd, ok := s.held[name]; ok {
		unix.Close(fd)
		delete(s.held, name)
	}
}

// Names returns the names that can be taken.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.left {
		names = append(names, name)
	}
	return names
}

// Put gives the holder a copy of a descriptor, in place of any other of this name. Without a holder
// it does nothing. The caller keeps its own. Names are printable ASCII without a colon.
func (s *Store) Put(name string, fd int) error {
	if s.socket == "" {
		return nil
	}
	err := errors.Join(s.Remove(name), s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold(name, fd)
	return err
}

// Remove makes the holder close its copies of this name. A holder that is gone has none.
func (s *Store) Remove(name string) error {
	if s.socket == "" {
		return nil
	}
	s.mu.Lock()
	s.drop(name)
	s.mu.Unlock()
	err := s.send("FDSTOREREMOVE=1\nFDNAME=" + name)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// sendTimeout is how long a holder may take to read.
const sendTimeout = time.Second

// send sends a message to the holder.
func (s *Store) send(text string, fds ...int) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	limit := unix.NsecToTimeval(sendTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(socket, []byte(text), rights, &unix.SockaddrUnix{Name: s.socket}, 0); err != nil {
		return fmt.Errorf("the holder of descriptors at %s cannot be told: %w", s.socket, err)
	}
	return nil
}
