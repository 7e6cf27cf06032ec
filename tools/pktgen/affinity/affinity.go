// Package affinity runs parts of the generator in a network namespace and on a CPU. Both are
// properties of a thread.
package affinity

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

// Affinity is a network namespace and a CPU.
type Affinity struct {
	Netns string // name in /run/netns, or a path with a slash; "": that of the process
	CPU   int    // number of a CPU, or AnyCPU
}

// namespaces is the directory in which ip-netns(8) creates files.
const namespaces = "/run/netns"

// Do runs f in the namespace and on the CPU, on a thread of its own that ends afterwards, while the
// caller waits. Sockets that f opens stay in the namespace; goroutines that it starts do not.
func (a Affinity) Do(f func() error) error {
	done := make(chan error, 1)
	go a.run(f, done)
	return <-done
}

// run never unlocks its thread, so that it ends with the goroutine. The main thread cannot end, and
// /proc shows its namespace as that of the process. While this goroutine holds it, the next one
// gets another thread.
func (a Affinity) run(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		inner := make(chan error, 1)
		go a.run(f, inner)
		done <- <-inner
		runtime.UnlockOSThread()
		return
	}
	if err := a.enter(); err != nil {
		done <- err
		return
	}
	done <- f()
}

func (a Affinity) enter() error {
	if a.Netns != "" {
		path := a.Netns
		if !strings.Contains(path, "/") {
			path = filepath.Join(namespaces, path)
		}
		handle, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("network namespace %s: %w (ip netns list shows all)", a.Netns, err)
		}
		defer handle.Close()
		if err := netns.Set(handle); err != nil {
			return fmt.Errorf("network namespace %s: entering it, which needs root: %w", a.Netns, err)
		}
	}
	if a.CPU == AnyCPU {
		return nil
	}
	return cpu.Pin(a.CPU)
}

// String returns the name of the namespace.
func (a Affinity) String() string {
	if a.Netns == "" {
		return "this network namespace"
	}
	return "network namespace " + a.Netns
}
