package steer_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

// attachEnv makes a process that runs this test binary a Sluice that does nothing but hold an
// interface: its value is the interface's name.
const attachEnv = "STEER_TEST_ATTACH"

func TestMain(m *testing.M) {
	if name := os.Getenv(attachEnv); name != "" {
		if err := holdInterface(name); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// holdInterface attaches to the interface, reports that, and keeps it until standard input ends.
func holdInterface(name string) error {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	program, err := steer.Load()
	if err != nil {
		return err
	}
	port, err := program.Attach(device.Attrs().Index, steer.Generic)
	if err != nil {
		return err
	}
	fmt.Println("attached")
	_, err = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(port)
	return err
}

// startHolder runs holdInterface in a process of its own, in the calling thread's namespaces.
func startHolder(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), attachEnv+"="+name)
	if _, err := cmd.StdinPipe(); err != nil { // ends with this process, however it ends
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "attached\n" {
		t.Fatalf("the second process reports %q", strings.TrimSpace(line))
	}
	return cmd
}

// enterNamespace puts the test into a network and a mount namespace of its own. They have no name
// and belong to the test's thread, so nothing of them is left when the test, or the whole process,
// ends in whatever way.
func enterNamespace(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it loads an XDP program and makes a network namespace")
	}
	runtime.LockOSThread() // and never unlocked: the thread is not to be used again
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatalf("making mounts private: %v", err)
	}
}

// veth makes a pair of interfaces, both up: the port and, at the other end of the cable, the peer.
func veth(t *testing.T) (port, peer netlink.Link) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumRxQueues, attrs.NumTxQueues, attrs.MTU = "steer0", 1, 1, 1500
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "steer1"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatalf("making a veth pair: %v", err)
	}
	for _, end := range []struct {
		name string
		link *netlink.Link
	}{{"steer0", &port}, {"steer1", &peer}} {
		found, err := netlink.LinkByName(end.name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(found); err != nil {
			t.Fatal(err)
		}
		if *end.link, err = netlink.LinkByName(end.name); err != nil {
			t.Fatal(err)
		}
	}
	return port, peer
}

// load gives an empty program that ends with the test.
func load(t testing.TB) *steer.Program {
	t.Helper()
	program, err := steer.Load()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := program.Close(); err != nil {
			t.Error(err)
		}
	})
	return program
}

// attach attaches the program until the test ends.
func attach(t testing.TB, program *steer.Program, device netlink.Link, mode steer.Mode) *steer.Port {
	t.Helper()
	port, err := program.Attach(device.Attrs().Index, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	})
	return port
}

// loopback is an interface that every namespace has.
func loopback(t testing.TB) netlink.Link {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return lo
}

// xdpOn is what XDP program the interface carries, by the kernel's account; nil if none.
func xdpOn(t testing.TB, device netlink.Link) *netlink.LinkXdp {
	t.Helper()
	now, err := netlink.LinkByIndex(device.Attrs().Index)
	if err != nil {
		t.Fatal(err)
	}
	if x := now.Attrs().Xdp; x != nil && x.Attached {
		return x
	}
	return nil
}

// eventually waits, within reason, for something to become true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after 10 seconds: %s", what)
		}
	}
}
