package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"sluice/tools/netlab"
)

// childEnv marks a process that this package started; its value is the kind of process. It is
// removed before anything else runs.
const childEnv = "NETLAB_LOADGEN_CHILD"

// The two kinds of process.
const (
	serving = "serving" // its argument is the address to listen on
	calling = "calling" // its arguments are the local address and the address to connect to
)

// RunIfChild runs as a server or a client and ends with os.Exit in a process that this package
// started. In any other process it does nothing.
func RunIfChild() {
	kind := os.Getenv(childEnv)
	if kind == "" {
		return
	}
	os.Unsetenv(childEnv)
	if err := run(kind, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(kind string, args []string) (err error) {
	var execute func(command) answer
	switch kind {
	case serving:
		execute, err = serve(args[0])
	case calling:
		execute, err = call(args[0], args[1])
	}
	if err != nil {
		return err
	}
	fmt.Println(readyLine)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o command
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		a := execute(o)
		a.Number = o.Number
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", line)
	}
	return in.Err()
}

// readyLine is what a process prints when it is ready for commands.
const readyLine = "loadgen ready"

// command is one line of input.
type command struct {
	Number int
	Do     string
	First  int // open, send SYNs: the first local port
	Ports  int // open, send SYNs: how many

	Traffic *Traffic `json:",omitempty"` // begin
}

// answer is the line of output that answers a command.
type answer struct {
	Number int
	Count  int          // connections for which the command succeeded
	Why    string       // error of the first that failed
	Peers  []netip.Addr `json:",omitempty"` // held: addresses of the other ends

	Sums []json.RawMessage `json:",omitempty"` // sum, end: a Sum each
}

// process is one process, in its parent.
type process struct {
	process  *netlab.Process
	input    io.Writer
	commands int   // so far
	mark     int64 // in the output, before the last answer
}

func newProcess(h *netlab.Host, kind string, args ...string) (*process, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	started, err := h.Start(cmd)
	return &process{process: started, input: input}, err
}

// send sends a command without waiting for its answer.
func (m *process) send(o command) error {
	m.commands++
	o.Number, m.mark = m.commands, m.process.Mark()
	line, err := json.Marshal(o)
	if err == nil {
		_, err = fmt.Fprintf(m.input, "%s\n", line)
	}
	return err
}

// receive waits for the answer to the last command.
func (m *process) receive(ctx context.Context) (a answer, err error) {
	line, err := m.process.WaitLineAfter(ctx, m.mark, fmt.Sprintf(`{"Number":%d,`, m.commands))
	if err == nil {
		err = json.Unmarshal([]byte(line), &a)
	}
	return a, err
}

// processes are all processes of one end.
type processes []*process

// all makes every process execute a command, in parallel, and adds up the answers.
func (all processes) all(ctx context.Context, each func(i int) command) (sum answer, err error) {
	for i, m := range all {
		if err := m.send(each(i)); err != nil {
			return sum, err
		}
	}
	var why []string
	for _, m := range all {
		a, receiveErr := m.receive(ctx)
		err = errors.Join(err, receiveErr)
		sum.Count += a.Count
		sum.Peers = append(sum.Peers, a.Peers...)
		sum.Sums = append(sum.Sums, a.Sums...)
		if a.Why != "" {
			why = append(why, a.Why)
		}
	}
	sum.Why = strings.Join(why, "; ")
	return sum, err
}

// Stop ends all processes, and with them all connections.
func (all processes) Stop() error {
	var errs []error
	for _, m := range all {
		errs = append(errs, m.process.Kill())
	}
	return errors.Join(errs...)
}

// start starts n processes and waits until all of them are ready.
func start(ctx context.Context, n int, one func(i int) (*process, error)) (processes, error) {
	var all processes
	for i := range n {
		m, err := one(i)
		if err != nil {
			return nil, errors.Join(err, all.Stop())
		}
		all = append(all, m)
	}
	for _, m := range all {
		if _, err := m.process.WaitLine(ctx, readyLine); err != nil {
			return nil, errors.Join(err, all.Stop())
		}
	}
	return all, nil
}
