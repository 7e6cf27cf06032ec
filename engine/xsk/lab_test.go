package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// testEtherType is IEEE's local experimental EtherType: no other program in the namespaces uses
	// it.
	testEtherType = 0x88b5
	// waitLimit is the longest time to wait for an event.
	waitLimit = 10 * time.Second
)

// TestMain also runs the child processes that some tests start with fewer rights.
func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	sweep()
	os.Exit(m.Run())
}

// sweep removes the namespaces of killed test runs. The name has the process ID. A process that has
// ended, is a zombie, or has become another program does not have this executable.
func sweep() {
	self, _ := os.Executable()
	stale, _ := filepath.Glob("/var/run/netns/xsk-*")
	for _, path := range stale {
		name := filepath.Base(path)
		exe, _ := os.Readlink("/proc/" + strings.Split(name, "-")[1] + "/exe")
		if !strings.HasPrefix(filepath.Base(exe), filepath.Base(self)) {
			_ = netns.DeleteNamed(name)
		}
	}
}

// lab is two namespaces: near has the sockets under test, far has the other ends of their links.
type lab struct {
	t         testing.TB
	near, far netns.NsHandle
	pairs     int
}

// pair is one veth pair between near and far, both ends up.
type pair struct {
	lab               *lab
	nearName, farName string
	near, far         int // interface indices
	queues            int
	sockets           *ebpf.Map // where the program that steer attached last looks
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and AF_XDP sockets")
	}
}

func newLab(t testing.TB) *lab {
	t.Helper()
	needRoot(t)
	l := &lab{t: t}
	l.near, l.far = l.namespace("near"), l.namespace("far")
	return l
}

// namespace makes a namespace without IPv6: IPv6's own packets would disturb the counts.
func (l *lab) namespace(side string) netns.NsHandle {
	l.t.Helper()
	name := fmt.Sprintf("xsk-%d-%s", os.Getpid(), side)
	var handle netns.NsHandle
	l.must(onThread(func() (err error) {
		if handle, err = netns.NewNamed(name); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		for _, which := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+which+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	}))
	l.t.Cleanup(func() {
		handle.Close()
		if err := netns.DeleteNamed(name); err != nil {
			l.t.Errorf("namespace %s: %v", name, err)
		}
	})
	return handle
}

// onThread runs f on a thread that ends afterwards, and with it its namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// in runs f inside a namespace.
func in(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// pair makes the next veth pair.
func (l *lab) pair(queues, mtu int) *pair {
	l.t.Helper()
	l.pairs++
	p := &pair{lab: l, queues: queues, nearName: fmt.Sprintf("near%d", l.pairs), farName: fmt.Sprintf("far%d", l.pairs)}
	p.create(mtu)
	return p
}

func (p *pair) create(mtu int) {
	l := p.lab
	l.t.Helper()
	l.must(in(l.near, func() error {
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: p.nearName, MTU: mtu, NumRxQueues: p.queues, NumTxQueues: p.queues, TxQLen: 1000})
		veth.PeerName, veth.PeerMTU, veth.PeerNamespace = p.farName, uint32(mtu), netlink.NsFd(l.far)
		veth.PeerNumRxQueues, veth.PeerNumTxQueues = uint32(p.queues), uint32(p.queues)
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth %s: %w", p.nearName, err)
		}
		return up(p.nearName, &p.near)
	}))
	l.must(in(l.far, func() error { return up(p.farName, &p.far) }))
}

func up(name string, index *int) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	*index = l.Attrs().Index
	return netlink.LinkSetUp(l)
}

// setUp sets the near end up or down.
func (p *pair) setUp(on bool) {
	p.lab.t.Helper()
	p.lab.must(in(p.lab.near, func() error {
		l, err := netlink.LinkByIndex(p.near)
		if err != nil {
			return err
		}
		if on {
			return netlink.LinkSetUp(l)
		}
		return netlink.LinkSetDown(l)
	}))
}

// remove deletes the link, and with it both ends.
func (p *pair) remove() {
	p.lab.t.Helper()
	p.lab.must(in(p.lab.near, func() error {
		l, err := netlink.LinkByIndex(p.near)
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}))
}

// steer attaches a program to the near end that redirects every frame to the socket of its queue,
// and drops it if the queue has none.
func (p *pair) steer(generic bool) *ebpf.Map {
	t := p.lab.t
	t.Helper()
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(p.queues)})
	p.lab.must(err)
	t.Cleanup(func() { sockets.Close() })
	const rxQueueIndex, xdpDrop = 16, 1 // struct xdp_md, enum xdp_action
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "xsk_test", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
			asm.LoadMapPtr(asm.R1, sockets.FD()),
			asm.Mov.Imm(asm.R3, xdpDrop),
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	})
	p.lab.must(err)
	t.Cleanup(func() { program.Close() })
	flags := link.XDPDriverMode
	if generic {
		flags = link.XDPGenericMode
	}
	p.lab.must(in(p.lab.near, func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: p.near, Flags: flags})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
	p.sockets = sockets
	return sockets
}

// config returns a copy-mode socket's Config on the near end, with small rings so that indices wrap
// often.
func (p *pair) config(u *UMEM, queue int) Config {
	return Config{Ifindex: p.near, Ifname: p.nearName, Queue: queue, UMEM: u,
		RX: 256, TX: 256, Fill: 256, Completion: 256, NeedWakeup: true}
}

// tryOpen opens a socket in the near namespace.
func (l *lab) tryOpen(cfg Config) (s *Socket, err error) {
	_ = in(l.near, func() error {
		s, err = Open(cfg)
		return nil
	})
	return s, err
}

// open opens a socket that is closed when the test ends, before its UMEM.
func (l *lab) open(cfg Config) *Socket {
	l.t.Helper()
	s, err := l.tryOpen(cfg)
	l.must(err)
	l.t.Cleanup(func() { s.Close() })
	return s
}

func newUMEM(t testing.TB, frames int) *UMEM {
	t.Helper()
	u, err := NewUMEM(frames, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// plug is a packet socket on the far end. What it sends arrives at near; what near sends arrives at
// it.
type plug struct {
	t  testing.TB
	fd int
}

func (p *pair) plug() *plug {
	p.lab.t.Helper()
	g := &plug{t: p.lab.t}
	p.lab.must(in(p.lab.far, func() error {
		proto := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, testEtherType)))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		g.fd = fd
		return errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(proto), Ifindex: p.far}),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			// Skip what this packet socket sent itself.
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	}))
	g.t.Cleanup(func() { unix.Close(g.fd) })
	return g
}

func (g *plug) send(frame []byte) {
	g.t.Helper()
	if _, err := unix.Write(g.fd, frame); err != nil {
		g.t.Fatalf("send %d bytes: %v", len(frame), err)
	}
}

// receive waits for the next frame.
func (g *plug) receive(buf []byte) []byte {
	g.t.Helper()
	fds := []unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if n, err := unix.Poll(fds, 100); n != 1 || err != nil {
			continue
		}
		if n, _, err := unix.Recvfrom(g.fd, buf, unix.MSG_DONTWAIT); err == nil {
			return buf[:n]
		}
	}
	g.t.Fatalf("no frame within %v", waitLimit)
	return nil
}

// frame returns an Ethernet frame of n bytes with a content that depends on number.
func frame(n int, number uint32) []byte {
	f := make([]byte, n)
	copy(f, []byte{0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2})
	binary.BigEndian.PutUint16(f[12:], testEtherType)
	binary.BigEndian.PutUint32(f[14:], number)
	for i := 18; i < n; i++ {
		f[i] = byte(i*7) ^ byte(number>>(i%4*8))
	}
	return f
}

// until polls until an event happens.
func until(t testing.TB, what string, event func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !event(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitLimit, what)
		}
		runtime.Gosched()
	}
}
