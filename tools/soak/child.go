package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"sluice/tools/netlab"
)

// childEnv marks a process that this program started as a server or a client. It is removed before
// anything else runs.
const childEnv = "SLUICE_SOAK_CHILD"

// runIfChild runs a server or a client and ends with os.Exit in a process that startServer or
// startClient has started. In any other process it does nothing.
func runIfChild() {
	kind := os.Getenv(childEnv)
	if kind == "" {
		return
	}
	os.Unsetenv(childEnv)
	var err error
	switch kind {
	case "server":
		err = serve(os.Args[1], os.Args[2])
	case "client":
		err = call(os.Args[1])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak %s: %v\n", kind, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(kind string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+kind)
	return cmd
}

// startServer starts a server and waits until it listens.
func startServer(ctx context.Context, h *netlab.Host, name string, port int) (*netlab.Process, error) {
	p, err := h.Start(child("server", name, strconv.Itoa(port)))
	if err == nil {
		_, err = p.WaitLine(ctx, serverReady)
	}
	return p, err
}

// clientProcess is a client in its parent.
type clientProcess struct {
	process *netlab.Process
	input   io.Closer     // closing it makes the client come to its end
	ended   chan struct{} // closed when all of its output was read
}

// startClient starts a client. got is called with each of its messages, by one goroutine.
func startClient(h *netlab.Host, load Load, got func(message)) (*clientProcess, error) {
	text, err := json.Marshal(load)
	if err != nil {
		return nil, err
	}
	cmd := child("client", string(text))
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	cmd.Stdout = to
	process, err := h.Start(cmd)
	if err != nil {
		return nil, err
	}
	c := &clientProcess{process, input, make(chan struct{})}
	go func() {
		<-process.Ended()
		to.Close()
	}()
	go func() {
		defer close(c.ended)
		for lines := bufio.NewScanner(from); lines.Scan(); {
			var m message
			if json.Unmarshal(lines.Bytes(), &m) == nil {
				got(m)
			}
		}
		_, _ = io.Copy(io.Discard, from) // never hold the client up
	}()
	return c, nil
}
