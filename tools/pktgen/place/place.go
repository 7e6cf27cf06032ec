// Package place says where a part of the generator runs: in which network namespace and on which
// CPU. Both are properties of a thread.
package place

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sluice/engine/cpu"
)

// AnyCPU leaves the choice to the kernel.
const AnyCPU = -1

// Place is a network namespace and a CPU.
type Place struct {
	Netns string // name in /run/netns, or a path with a slash; "" is the one the process was started in
	CPU   int    // AnyCPU, or the number of one
}

// namespaces are files that ip-netns(8) makes.
const namespaces = "/run/netns"

// Do runs f in the place, on a thread of its own that ends afterwards, while the caller waits.
// Sockets that f makes stay in the namespace, goroutines that it starts do not.
func (p Place) Do(f func() error) error {
	done := make(chan error, 1)
	go p.run(f, done)
	return <-done
}

// run never unlocks its thread, so that it ends with the goroutine. The main thread can't end, and
// its namespace is what /proc shows for the process: while we hold it, the next goroutine gets
// another one.
func (p Place) run(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		inner := make(chan error, 1)
		go p.run(f, inner)
		done <- <-inner
		runtime.UnlockOSThread()
		return
	}
	if err := p.enter(); err != nil {
		done <- err
		return
	}
	done <- f()
}

func (p Place) enter() error {
	if p.Netns != "" {
		path := p.Netns
		if !strings.Contains(path, "/") {
			path = filepath.Join(namespaces, path)
		}
		handle, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("network namespace %s: %w (ip netns list shows which there are)", p.Netns, err)
		}
		defer handle.Close()
		if err := netns.Set(handle); err != nil {
			return fmt.Errorf("network namespace %s: entering it, which needs root: %w", p.Netns, err)
		}
	}
	if p.CPU == AnyCPU {
		return nil
	}
	return cpu.Pin(p.CPU)
}

// String names the namespace.
func (p Place) String() string {
	if p.Netns == "" {
		return "this network namespace"
	}
	return "network namespace " + p.Netns
}
