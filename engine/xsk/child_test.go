package xsk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// childRole, if set in the environment, makes the test binary a child process that opens a socket
// on lo with fewer rights and prints the error of Open. The child inherits the namespace near of
// its parent.
const childRole = "SLUICE_XSK_CHILD"

func child(role string) int {
	runtime.LockOSThread()
	switch role {
	case "memlock":
		dropCapability(unix.CAP_IPC_LOCK)
		limit := unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			fmt.Println("setrlimit:", err)
			return 1
		}
	case "raw":
		dropCapability(unix.CAP_NET_RAW)
	case "forward":
		return forward()
	}
	u, err := NewUMEM(1024, -1)
	if err != nil {
		fmt.Println("UMEM:", err)
		return 1
	}
	s, err := Open(Config{Ifindex: 1, Ifname: "lo", UMEM: u})
	if err == nil {
		s.Close()
		fmt.Println("opened")
		return 1
	}
	var e *OpenError
	if !errors.As(err, &e) {
		fmt.Printf("error of type %T\n", err)
	}
	fmt.Println(err)
	return 0
}

// dropCapability removes one capability from the calling thread.
func dropCapability(which uint) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		panic(err)
	}
	sets[which/32].Effective &^= 1 << (which % 32)
	sets[which/32].Permitted &^= 1 << (which % 32)
	if err := unix.Capset(&header, &sets[0]); err != nil {
		panic(err)
	}
}

// runChild runs this binary as a child process in the namespace near.
func (l *lab) runChild(role string) string {
	l.t.Helper()
	var out []byte
	l.must(in(l.near, func() (err error) {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMTU(lo, 1500); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		command := exec.Command(self)
		command.Env = append(os.Environ(), childRole+"="+role)
		out, err = command.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("child %s: %w: %s", role, err, out)
		}
		return err
	}))
	return string(out)
}

func TestMemlockTooSmall(t *testing.T) {
	got := newLab(t).runChild("memlock")
	for _, want := range []string{"lo queue 0: ", "4096 KiB of frames", "the limit is 64 KiB", "LimitMEMLOCK=infinity", "CAP_IPC_LOCK"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q doesn't contain %q", got, want)
		}
	}
}

func TestCapNetRawMissing(t *testing.T) {
	got := newLab(t).runChild("raw")
	for _, want := range []string{"lo queue 0: ", "CAP_NET_RAW", "socket"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q doesn't contain %q", got, want)
		}
	}
}
