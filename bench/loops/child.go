// Package loops has forwarders without a balancer, which show what AF_XDP itself costs. Each runs
// as a process of its own, which is this program started again.
//
//   - Empty (empty.go) is the engine's own worker, on the engine's own sockets and steering
//     program, with a function in place of the pipeline that writes two MAC addresses. So the
//     difference to it is the pipeline.
//   - L2fwd (l2fwd.go) forwards as the l2fwd example of github.com/asavie/xdp does, with the
//     library's own program, default sockets, one copy from one socket's memory to the other's, and
//     a poll for each turn.
package loops

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
)

// Kind is a loop.
type Kind string

// The loops.
const (
	Empty Kind = "empty"
	L2fwd Kind = "l2fwd"
)

// Config configures a loop. The MAC addresses are written into each frame.
type Config struct {
	Kind      Kind             `json:"kind"`
	In        string           `json:"in"`  // interface to receive from
	Out       string           `json:"out"` // interface to send to
	Source    net.HardwareAddr `json:"source"`
	To        net.HardwareAddr `json:"to"`
	CPU       int              `json:"cpu"`
	Address   string           `json:"address"` // Empty: what is steered to it
	FirstPort uint16           `json:"first_port"`
	Ports     int              `json:"ports"`
}

// Counters counts what a loop has done. On each SIGUSR1 the loop prints them as JSON in a line that
// begins with CountersLine.
type Counters struct {
	Frames   uint64 `json:"frames"` // received
	Sent     uint64 `json:"sent"`
	Turns    uint64 `json:"turns"` // that received frames
	Syscalls uint64 `json:"syscalls"`
}

// Lines that a loop prints.
const (
	ReadyLine    = "loop is ready"
	CountersLine = "counters "
)

// childEnv carries the configuration to the process that Command starts.
const childEnv = "SLUICE_BENCH_LOOP"

// Command returns a process that runs the loop until SIGTERM. This program has to call RunIfChild
// first.
func Command(c Config) (*exec.Cmd, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	return cmd, nil
}

// RunIfChild runs the loop and ends with os.Exit in a process that Command started. In any other
// process it does nothing.
func RunIfChild() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	os.Unsetenv(childEnv)
	var c Config
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = run(c, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// loop is one of the loops. Its methods are called on one thread. turn returns soon after wake has
// an element.
type loop interface {
	turn(wake <-chan struct{}) error
	counters() (Counters, error)
	close() error
}

// asked carries requests by signals to the goroutine of the loop, which reads it once per turn.
type asked struct {
	stop, counters atomic.Bool
	wake           chan struct{} // has an element after a request
}

func run(c Config, out io.Writer) error {
	a := asked{wake: make(chan struct{}, 1)}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				a.stop.Store(true)
			} else {
				a.counters.Store(true)
			}
			select {
			case a.wake <- struct{}{}:
			default:
			}
		}
	}()
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		ended <- serve(c, &a, out)
	}()
	return <-ended
}

func serve(c Config, a *asked, out io.Writer) (err error) {
	var l loop
	switch c.Kind {
	case Empty:
		l, err = newEmpty(c)
	case L2fwd:
		l, err = newL2fwd(c)
	default:
		err = fmt.Errorf("there is no loop %q", c.Kind)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, ReadyLine)
	for err == nil && !a.stop.Load() {
		if err = l.turn(a.wake); err == nil && a.counters.Swap(false) {
			err = printCounters(l, out)
		}
	}
	if e := l.close(); err == nil {
		err = e
	}
	return err
}

func printCounters(l loop, out io.Writer) error {
	c, err := l.counters()
	if err != nil {
		return err
	}
	text, _ := json.Marshal(c) // numbers always encode
	_, err = fmt.Fprintf(out, "%s%s\n", CountersLine, text)
	return err
}
