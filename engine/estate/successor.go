package estate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// # Upgrade
//
// A process starts its successor, and both talk over a pair of sockets:
//
//	successor  prepared   it can begin; nothing of the former process is touched before
//	former     stored     copies of all stored descriptors, in parts
//	former     given      copies of others
//	former     word       it writes nothing any more: the successor owns everything
//	successor  ready      it runs; the former process ends
//	successor  error      it cannot run
//
// Before its word the former process goes on as if nothing had been when the successor fails. Each
// side notices at once when the other one ends.

// successorVar names the descriptor of the successor's socket in its environment.
const successorVar = "SLUICE_SUCCESSOR_FD"

// The descriptors that a successor has besides the standard ones.
const (
	socketFD = firstFD
	configFD = firstFD + 1
)

// filesPerMessage is below the kernel's bound on descriptors, and their names fit into a message.
const filesPerMessage = 100

// maxMessage is the size of the largest message in bytes.
const maxMessage = 64 << 10

// message is what one process says to the other.
type message struct {
	Kind  string
	Names []string `json:",omitempty"` // of descriptors beside the message
	Error string   `json:",omitempty"`
	Word  *Word    `json:",omitempty"`
	Ready *Ready   `json:",omitempty"`
	// Layout is that of the successor's tables, in what it says when it is prepared
	Layout string `json:",omitempty"`
}

// Word is what the former process says of itself when it stops.
type Word struct {
	Version   string
	PID       int
	StoppedNs int64 // CLOCK_MONOTONIC when its workers stopped
}

// Ready is what the successor says of itself when it runs.
type Ready struct {
	Version     string
	Connections int   // that go on
	Lost        int   // that do not
	StartedNs   int64 // CLOCK_MONOTONIC when its workers ran
}

// Gap returns for how long no worker ran.
func (w *Word) Gap(startedNs int64) time.Duration { return time.Duration(startedNs - w.StoppedNs) }

// Monotonic returns CLOCK_MONOTONIC in ns.
func Monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	return now.Nano()
}

// peer is one end of the pair of sockets.
type peer struct{ conn *net.UnixConn }

func (p peer) send(m message, fds ...int) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = p.conn.WriteMsgUnix(text, rights, nil)
	return err
}

// receive returns the next message, and the descriptors beside it, which the caller owns.
func (p peer) receive() (m message, fds []int, err error) {
	text, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*filesPerMessage))
	n, oob, _, _, err := p.conn.ReadMsgUnix(text, control) // descriptors are close-on-exec
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return m, nil, err
	}
	parts, err := unix.ParseSocketControlMessage(control[:oob])
	for i := range parts {
		if some, e := unix.ParseUnixRights(&parts[i]); e == nil {
			fds = append(fds, some...)
		}
	}
	if err == nil {
		err = json.Unmarshal(text[:n], &m)
	}
	if err == nil && len(fds) != len(m.Names) {
		err = fmt.Errorf("%d descriptors came, of %d", len(fds), len(m.Names))
	}
	if err != nil {
		closeAll(fds)
		return m, nil, err
	}
	return m, fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// Successor is the process that is to take the place of this one. Its methods are called one at a
// time.
type Successor struct {
	peer
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// Start starts a successor with a program, its arguments and the text of the configuration that it
// is to run with. affinity, called on the thread that starts it, lets it run on the CPUs that this
// process had at its own start.
func Start(path string, args []string, config string, affinity func() error) (*Successor, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "successor"), os.NewFile(uintptr(pair[1]), "former")
	defer ours.Close() // FileConn has a copy
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	s := &Successor{peer: peer{conn.(*net.UnixConn)}, ended: make(chan struct{})}
	text, err := memory(config)
	if err == nil {
		defer text.Close()
		s.cmd = exec.Command(path, args...)
		s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		s.cmd.ExtraFiles, s.cmd.Env = []*os.File{theirs, text}, environment()
		err = onThread(func() error { return errors.Join(affinity(), s.cmd.Start()) })
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	go func() {
		_ = s.cmd.Wait() // its result is in cmd.ProcessState
		close(s.ended)
	}()
	return s, nil
}

// onThread calls f on a thread that ends then: its CPUs are no other's.
func onThread(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		err = f()
	}()
	<-done
	return err
}

// environment returns the environment of a successor: what is for this process alone is not in it.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "WATCHDOG_PID" || name == successorVar || strings.HasPrefix(name, "LISTEN_")
	})
	return append(env, fmt.Sprintf("%s=%d", successorVar, socketFD))
}

// memory returns a file in memory with a text.
func memory(text string) (*os.File, error) {
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "configuration")
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// PID returns the successor's process.
func (s *Successor) PID() int { return s.cmd.Process.Pid }

// AwaitPrepared waits until the successor can begin, and returns what it has given to Await.
func (s *Successor) AwaitPrepared(ctx context.Context) (layout string, err error) {
	m, err := s.await(ctx, "prepared")
	return m.Layout, err
}

// AwaitReady waits until the successor runs.
func (s *Successor) AwaitReady(ctx context.Context) (*Ready, error) {
	m, err := s.await(ctx, "ready")
	if err == nil && m.Ready == nil {
		err = errors.New("the successor does not say what it has taken over")
	}
	return m.Ready, err
}

// await waits for a message of a kind.
func (s *Successor) await(ctx context.Context, kind string) (m message, err error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	m, fds, err := s.receive()
	closeAll(fds)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return m, fmt.Errorf("the new process is not %s in time", kind)
	case ctx.Err() != nil:
		return m, fmt.Errorf("given up before the new process was %s: the request has ended, or the daemon stops", kind)
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return m, s.ending(kind)
	case err != nil:
		return m, fmt.Errorf("the new process: %w", err)
	case m.Kind == "error":
		return m, errors.New(m.Error)
	case m.Kind != kind:
		return m, fmt.Errorf("the new process says %q before it is %s", m.Kind, kind)
	}
	return m, nil
}

// endTime is how long a process may take to end after it has closed its socket.
const endTime = time.Second

// ending tells how the successor has ended.
func (s *Successor) ending(kind string) error {
	select {
	case <-s.ended:
		return fmt.Errorf("the new process ended (%s) before it was %s; what it printed is in the log", s.cmd.ProcessState, kind)
	case <-time.After(endTime):
		return fmt.Errorf("the new process does not take part in an upgrade: it closed the socket for it before it was %s", kind)
	}
}

// Give gives the successor copies of all descriptors that are stored, and of others, and this
// process's word. From then on only the successor may write to what they name.
func (s *Successor) Give(store *Store, others map[string]int, word *Word) error {
	store.mu.Lock()
	defer store.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err := errors.Join(s.give(stored, store.held), s.give(given, others)); err != nil {
		return err
	}
	// before the word: the holder takes messages of the main process only
	if err := store.send(fmt.Sprintf("MAINPID=%d", s.PID())); err != nil {
		return err
	}
	return s.send(message{Kind: "word", Word: word})
}

// The kinds of messages with descriptors.
const (
	stored = "stored" // what the holder has, too
	given  = "given"  // what is for a successor only
)

// give gives the successor descriptors.
func (s *Successor) give(kind string, all map[string]int) error {
	for names := range slices.Chunk(slices.Collect(maps.Keys(all)), filesPerMessage) {
		fds := make([]int, len(names))
		for i, name := range names {
			fds[i] = all[name]
		}
		if err := s.send(message{Kind: kind, Names: names}, fds...); err != nil {
			return err
		}
	}
	return nil
}

// End kills the successor, if it still runs, and frees what this process has of it.
func (s *Successor) End() {
	_ = s.cmd.Process.Kill() // it has ended
	<-s.ended
	s.conn.Close()
}

// Former is the process that has started this one as its successor. A nil Former is none.
type Former struct {
	peer
	Config []byte // the text of its configuration
	Word   *Word  // set by Await
	ran    int64  // CLOCK_MONOTONIC when this process's workers ran
	given  map[string]int
}

// openFormer returns the process that has started this one, nil if none has. The environment is
// read once, like that of Open.
func openFormer() *Former {
	text := os.Getenv(successorVar)
	os.Unsetenv(successorVar)
	if fd, err := strconv.Atoi(text); err != nil || fd != socketFD {
		return nil
	}
	socket, config := os.NewFile(socketFD, "former"), os.NewFile(configFD, "configuration")
	defer socket.Close() // FileConn has a copy
	defer config.Close()
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil
	}
	var all bytes.Buffer
	if _, err := io.Copy(&all, io.NewSectionReader(config, 0, 1<<40)); err != nil {
		conn.Close()
		return nil
	}
	return &Former{peer: peer{unixConn}, Config: all.Bytes(), given: make(map[string]int)}
}

// Former returns the process that has started this one as its successor; nil: none has. The Store
// may be nil.
func (s *Store) Former() *Former {
	if s == nil {
		return nil
	}
	return s.former
}

// Given returns a descriptor that the former process has given besides what is stored, which the
// caller owns then.
func (f *Former) Given(name string) (fd int, ok bool) {
	fd, ok = f.given[name]
	delete(f.given, name)
	return fd, ok
}

// Await says that this process can begin, and which layout of tables it has, and waits for the
// former process's word. Then what was stored can be taken. Without a former process it returns at
// once. The error is final: this process must end.
func (s *Store) Await(layout string) error {
	f := s.former
	if f == nil || f.Word != nil {
		return nil
	}
	if err := f.send(message{Kind: "prepared", Layout: layout}); err != nil {
		return fmt.Errorf("the former process has ended: %w", err)
	}
	for {
		m, fds, err := f.receive()
		if err != nil {
			return fmt.Errorf("the former process has given up the upgrade: %w", err)
		}
		to := s.left
		if m.Kind == given {
			to = f.given
		}
		s.mu.Lock()
		for i, name := range m.Names {
			to[name] = fds[i]
		}
		s.mu.Unlock()
		if m.Word != nil {
			f.Word = m.Word
			return nil
		}
	}
}

// Launched notes that the workers of this process run. It may be called on a nil Former.
func (f *Former) Launched() {
	if f != nil {
		f.ran = Monotonic()
	}
}

// LaunchedNs returns when Launched was called.
func (f *Former) LaunchedNs() int64 { return f.ran }

// Ready tells the former process that this one runs in its place.
func (f *Former) Ready(r *Ready) error {
	defer f.conn.Close()
	return f.send(message{Kind: "ready", Ready: r})
}

// Fail tells the former process why this one cannot run. It may be called on a nil Former, and in
// any state.
func (f *Former) Fail(err error) {
	if f != nil && err != nil {
		_ = f.send(message{Kind: "error", Error: err.Error()}) // it knows already
	}
}
