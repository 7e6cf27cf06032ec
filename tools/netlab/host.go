package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one network namespace. Its methods may be called by any goroutine until the lab is
// closed; afterwards they return an error.
type Host struct {
	lab  *Lab
	name string
	id   nsID

	// use is held for reading while one of the three below is used, for writing to release them.
	use     sync.RWMutex
	gone    bool
	ns      netns.NsHandle
	netlink *netlink.Handle
	thread  *thread // in the namespace, with a mount namespace of its own; parent of all processes

	mu      sync.Mutex
	started []*Process
}

// quiet makes addresses usable at once, and hosts neither learn from router advertisements nor
// filter.
var quiet = []struct{ key, value string }{
	{"net/ipv4/conf/all/rp_filter", "0"}, // the greater of all and the interface's own counts
	{"net/ipv4/conf/default/rp_filter", "0"},
	{"net/ipv6/conf/all/disable_ipv6", "0"},
	{"net/ipv6/conf/default/disable_ipv6", "0"},
	{"net/ipv6/conf/all/accept_dad", "0"}, // here, too, the greater counts
	{"net/ipv6/conf/default/accept_dad", "0"},
	{"net/ipv6/conf/all/dad_transmits", "0"},
	{"net/ipv6/conf/default/dad_transmits", "0"},
	{"net/ipv6/conf/all/keep_addr_on_down", "1"}, // as IPv4 does
	{"net/ipv6/conf/default/keep_addr_on_down", "1"},
	{"net/ipv6/conf/all/accept_ra", "0"},
	{"net/ipv6/conf/default/accept_ra", "0"},
	{"net/ipv6/conf/all/router_solicitations", "0"},
	{"net/ipv6/conf/default/router_solicitations", "0"},
}

func newHost(l *Lab, name string) (*Host, error) {
	h := &Host{lab: l, name: name, ns: netns.None()}
	t, err := newThread(h.enterNew)
	if err != nil {
		return nil, err
	}
	h.thread = t
	if err := h.setUp(); err != nil {
		h.release()
		return nil, errors.Join(err, removeNamespace(h.Namespace()))
	}
	return h, nil
}

// enterNew moves the calling thread into a new, named network namespace, and into a mount namespace
// with its /sys.
func (h *Host) enterNew() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	if err := nameNamespace(h.Namespace()); err != nil {
		return err
	}
	err := ownSys()
	if err == nil {
		h.ns, err = netns.GetFromPath("/proc/thread-self/ns/net")
	}
	if err == nil {
		h.id, err = nsIDOf("/proc/thread-self/ns/net")
	}
	if err != nil {
		h.closeNS()
		return errors.Join(err, removeNamespace(h.Namespace()))
	}
	return nil
}

// ownSys gives the calling thread a mount namespace of its own with a new mount of sysfs, which
// shows the interfaces of the namespace that mounted it.
func ownSys() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	// Mounts outside still propagate inside, but not the other way round.
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("separating mounts: %w", err)
	}
	_ = unix.Unmount("/sys", unix.MNT_DETACH) // the new one covers the old one anyway
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	return nil
}

func (h *Host) setUp() error {
	nl, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	h.netlink = nl
	// The default must stand before the first interface comes, lo's addresses included.
	for _, s := range quiet {
		if err := h.Sysctl(s.key, s.value); err != nil {
			return err
		}
	}
	return h.LinkUp("lo")
}

// release releases everything that keeps the namespace alive except its name and its processes.
func (h *Host) release() {
	h.use.Lock()
	defer h.use.Unlock()
	h.gone = true
	h.thread.end()
	if h.netlink != nil {
		h.netlink.Close()
	}
	h.closeNS()
}

func (h *Host) closeNS() {
	if h.ns.IsOpen() {
		h.ns.Close()
	}
}

// hold keeps the host from being released until letGo is called.
func (h *Host) hold() (letGo func(), err error) {
	h.use.RLock()
	if h.gone {
		h.use.RUnlock()
		return nil, h.lab.closedError()
	}
	return h.use.RUnlock, nil
}

// Name returns the name that was given to Lab.Host.
func (h *Host) Name() string { return h.name }

// Namespace returns the name of the namespace for ip-netns(8).
func (h *Host) Namespace() string { return namespaceName(h.lab.name, h.name, h.lab.maker) }

// Do calls f inside the namespace and returns its error. f runs on a goroutine and thread of its
// own while the caller waits; a panic in f or a runtime.Goexit (as by testing.T.FailNow) continues
// in the caller. Sockets that f makes stay in the namespace for good, and /proc/sys/net and
// /proc/thread-self/net are the namespace's; /sys, and goroutines that f starts, are outside.
func (h *Host) Do(f func() error) error {
	var (
		err      error
		panicked any
		finished bool
		done     = make(chan struct{})
	)
	onOwnThread(func() {
		defer close(done)
		leave, enterErr := h.enter()
		if enterErr != nil {
			err, finished = enterErr, true
			return
		}
		defer leave()
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n\nin netlab.Host.Do:\n%s", p, debug.Stack())
			}
		}()
		err = f()
		finished = true
	})
	<-done
	if panicked != nil {
		panic(panicked)
	}
	if !finished {
		runtime.Goexit()
	}
	return err
}

// enter moves the calling thread into the namespace. leave moves it back and hands it back to the
// scheduler; if that fails the thread stays locked and so ends with its goroutine.
func (h *Host) enter() (leave func(), err error) {
	letGo, err := h.hold()
	if err != nil {
		return nil, err
	}
	defer letGo()
	before, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: remembering the current namespace: %w", h.name, err)
	}
	if err := netns.Set(h.ns); err != nil {
		before.Close()
		return nil, fmt.Errorf("netlab: %s: entering its namespace: %w", h.name, err)
	}
	return func() {
		if netns.Set(before) == nil {
			runtime.UnlockOSThread()
		}
		before.Close()
	}, nil
}

// onThread calls f on the host's own thread, on which /sys is the namespace's. f must be short.
func (h *Host) onThread(f func() error) error {
	letGo, err := h.hold()
	if err != nil {
		return err
	}
	defer letGo()
	return h.thread.call(f)
}

// Sysctl sets a kernel parameter of the namespace: "net.ipv4.ip_forward", or with slashes where an
// interface name has a dot. Only net.* belongs to a namespace, so anything else is refused.
func (h *Host) Sysctl(key, value string) error {
	path := key
	if !strings.Contains(key, "/") {
		path = strings.ReplaceAll(key, ".", "/")
	}
	path = filepath.Clean(path)
	if !strings.HasPrefix(path, "net/") {
		return fmt.Errorf("netlab: %s: sysctl %q would change the whole machine: only net.* is the namespace's own", h.name, key)
	}
	return h.Do(func() error {
		// Without O_CREATE, a parameter that this kernel lacks is reported as missing.
		f, err := os.OpenFile(filepath.Join("/proc/sys", path), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(value)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("netlab: %s: sysctl %s=%s: %w", h.name, key, value, err)
		}
		return nil
	})
}

// poll calls done every few milliseconds until it returns true, at most for the given time. It is
// for states that the kernel reaches without a notification.
func poll(waitLimit time.Duration, done func() (bool, error)) (ok bool, err error) {
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(2 * time.Millisecond) {
		if ok, err = done(); ok || err != nil || time.Now().After(deadline) {
			return ok, err
		}
	}
}
