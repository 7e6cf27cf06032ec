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

// childEnv tells a program that it was started by this package, and as what. It is removed again
// before anything runs.
const childEnv = "NETLAB_LOADGEN_CHILD"

// The two kinds of process.
const (
	serving = "serving" // its argument is the address to listen on
	calling = "calling" // its arguments are the local address and the address to connect to
)

// RunIfChild is a whole process of this package, which it ends with os.Exit, in a process started by
// this package, and does nothing in any other.
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
	var obey func(order) answer
	switch kind {
	case serving:
		obey, err = serve(args[0])
	case calling:
		obey, err = call(args[0], args[1])
	}
	if err != nil {
		return err
	}
	fmt.Println(readyLine)
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		a := obey(o)
		a.Number = o.Number
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", line)
	}
	return in.Err()
}

// readyLine is what a process prints when it obeys orders.
const readyLine = "loadgen ready"

// order is one line of input.
type order struct {
	Number int
	Do     string
	First  int // open, knock: the first local port
	Ports  int // open, knock: how many
}

// answer is the line of output that an order is answered with.
type answer struct {
	Number int
	Count  int          // of connections for which what was ordered was done
	Why    string       // it was not done for the first that it was not done for
	Peers  []netip.Addr `json:",omitempty"` // held: the other ends
}

// member is one process, as its parent sees it.
type member struct {
	process *netlab.Process
	input   io.Writer
	orders  int   // so far
	mark    int64 // in the output, before the answer to the last one
}

func newMember(h *netlab.Host, kind string, args ...string) (*member, error) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	process, err := h.Start(cmd)
	return &member{process: process, input: input}, err
}

// tell gives an order without waiting for its answer.
func (m *member) tell(o order) error {
	m.orders++
	o.Number, m.mark = m.orders, m.process.Mark()
	line, err := json.Marshal(o)
	if err == nil {
		_, err = fmt.Fprintf(m.input, "%s\n", line)
	}
	return err
}

// hear waits for the answer to the last order.
func (m *member) hear(ctx context.Context) (a answer, err error) {
	line, err := m.process.WaitLineAfter(ctx, m.mark, fmt.Sprintf(`{"Number":%d,`, m.orders))
	if err == nil {
		err = json.Unmarshal([]byte(line), &a)
	}
	return a, err
}

// members are all processes of one end.
type members []*member

// all has every process carry out an order, side by side, and adds up the answers.
func (all members) all(ctx context.Context, each func(i int) order) (sum answer, err error) {
	for i, m := range all {
		if err := m.tell(each(i)); err != nil {
			return sum, err
		}
	}
	var why []string
	for _, m := range all {
		a, hearErr := m.hear(ctx)
		err = errors.Join(err, hearErr)
		sum.Count += a.Count
		sum.Peers = append(sum.Peers, a.Peers...)
		if a.Why != "" {
			why = append(why, a.Why)
		}
	}
	sum.Why = strings.Join(why, "; ")
	return sum, err
}

// Stop ends all processes, and with them all connections.
func (all members) Stop() error {
	var errs []error
	for _, m := range all {
		errs = append(errs, m.process.Kill())
	}
	return errors.Join(errs...)
}

// start starts n processes and waits until all of them are ready.
func start(ctx context.Context, n int, one func(i int) (*member, error)) (members, error) {
	var all members
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
