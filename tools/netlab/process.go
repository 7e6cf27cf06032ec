package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is a program running inside a host. Its methods may be called by any goroutine.
type Process struct {
	cmd    *exec.Cmd
	host   *Host
	output *output
	ended  chan struct{} // closed when the process is gone and err is set
	err    error
}

// outputTimeout is how long the output of a process that has ended is read if its children hold it
// open. On a busy machine the last lines of the process itself may be read late.
const outputTimeout = 5 * time.Second

// Start starts a command inside the host. It sees the host's interfaces in /sys. It is in a process
// group of its own, so that a Ctrl-C for the lab's maker does not reach it. It is killed when the
// maker dies, unless cmd.SysProcAttr asks for another parent-death signal. What it prints is kept
// (see Output) and also goes to cmd.Stdout and cmd.Stderr if they are set. cmd belongs to the
// Process from now on.
func (h *Host) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, host: h, output: newOutput(), ended: make(chan struct{})}
	cmd.Stdout = alsoTo(p.output, cmd.Stdout)
	cmd.Stderr = alsoTo(p.output, cmd.Stderr)
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = outputTimeout
	}
	attr := syscall.SysProcAttr{}
	if cmd.SysProcAttr != nil {
		attr = *cmd.SysProcAttr
	}
	if attr.Pdeathsig == 0 {
		attr.Pdeathsig = syscall.SIGKILL // comes when the forking thread ends; h.thread ends last
	}
	if !attr.Setsid && !attr.Foreground {
		attr.Setpgid = true
	}
	cmd.SysProcAttr = &attr

	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.onThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("netlab: %s: starting %s: %w", h.name, cmd.Path, err)
	}
	h.started = append(h.started, p)
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
		p.output.end()
	}()
	return p, nil
}

func alsoTo(o *output, w io.Writer) io.Writer {
	if w == nil {
		return o
	}
	return io.MultiWriter(o, w)
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended returns a channel that is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits until the process is gone and returns what exec.Cmd.Wait did: nil after exit status 0,
// an *exec.ExitError after another one or a signal.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Signal sends a signal; os.ErrProcessDone means that the process is gone.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Kill sends SIGKILL to the process, not to its children, and waits until it is gone. It is no
// error if it was gone already.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("netlab: %s: killing %s: %w", p.host.name, p.cmd.Path, err)
	}
	<-p.ended
	return nil
}

// Stop sends SIGTERM and waits until the process is gone; Wait then returns how it ended. After
// grace it kills the process and returns an error.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("netlab: %s: stopping %s: %w", p.host.name, p.cmd.Path, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(grace):
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("netlab: %s: %s did not end within %v of SIGTERM and was killed; its last output:\n%s",
		p.host.name, p.cmd.Path, grace, p.output.tail(2048))
}

// Output returns what the process has printed so far, standard output and standard error together;
// of a very long output only the end (4 MiB).
func (p *Process) Output() string { return p.output.tail(outputLimit) }

// Mark returns a position in the output: everything printed so far is before it.
func (p *Process) Mark() int64 { return p.output.mark() }

// WaitLine waits until the process has printed a whole line containing substr, at any time since
// its start, and returns it without its newline. It fails when ctx ends, or the process without
// such a line.
func (p *Process) WaitLine(ctx context.Context, substr string) (string, error) {
	return p.WaitLineAfter(ctx, 0, substr)
}

// WaitLineAfter is WaitLine for lines that end after a Mark.
func (p *Process) WaitLineAfter(ctx context.Context, mark int64, substr string) (string, error) {
	line, err := p.output.waitLine(ctx, mark, substr)
	if err != nil {
		return "", fmt.Errorf("netlab: %s: %s (process %d): waiting for a line with %q: %w; its last output:\n%s",
			p.host.name, p.cmd.Path, p.PID(), substr, err, p.output.tail(2048))
	}
	return line, nil
}

// killStarted sends SIGKILL to what Start started, even if it has left the namespace since.
func (h *Host) killStarted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.started {
		_ = p.Signal(syscall.SIGKILL) // fails if it is gone, which is fine
	}
}

// awaitStarted returns when the processes of killStarted are gone and their output is closed.
func (h *Host) awaitStarted() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	expired := time.After(killTimeout)
	for _, p := range h.started {
		select {
		case <-p.ended:
		case <-expired:
			return fmt.Errorf("%s: process %d (%s) is still there %v after SIGKILL", h.name, p.PID(), p.cmd.Path, killTimeout)
		}
	}
	return nil
}

// outputLimit is the number of bytes of a process's output that are kept.
const outputLimit = 4 << 20

var errProcessEnded = errors.New("the process ended")

// output keeps the last bytes that a process printed.
type output struct {
	mu      sync.Mutex
	bytes   []byte
	dropped int64         // bytes printed before those
	ended   bool          // nothing more will come
	more    chan struct{} // closed and replaced when there is more, closed for good at the end
}

func newOutput() *output { return &output{more: make(chan struct{})} }

// Write is called by the goroutines with which exec.Cmd copies the two outputs.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes = append(o.bytes, b...)
	if excess := len(o.bytes) - outputLimit; excess > outputLimit { // not for each write
		o.bytes = append([]byte(nil), o.bytes[excess:]...)
		o.dropped += int64(excess)
	}
	close(o.more)
	o.more = make(chan struct{})
	return len(b), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	close(o.more)
}

func (o *output) mark() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped + int64(len(o.bytes))
}

func (o *output) tail(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.bytes[max(0, len(o.bytes)-n):])
}

// waitLine treats an unfinished last line as a line only when nothing more will come.
func (o *output) waitLine(ctx context.Context, mark int64, substr string) (string, error) {
	for {
		line, found, ended, more := o.find(&mark, substr)
		if found {
			return line, nil
		}
		if ended {
			return "", errProcessEnded
		}
		select {
		case <-more:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// find looks through the lines after mark and moves mark past those that are complete and don't
// match.
func (o *output) find(mark *int64, substr string) (line string, found, ended bool, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*mark = max(*mark, o.dropped)
	rest := o.bytes[*mark-o.dropped:]
	for len(rest) > 0 {
		text, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole && !o.ended {
			break
		}
		if bytes.Contains(text, []byte(substr)) {
			return string(text), true, o.ended, o.more
		}
		*mark += int64(len(rest) - len(after))
		rest = after
	}
	return "", false, o.ended, o.more
}
