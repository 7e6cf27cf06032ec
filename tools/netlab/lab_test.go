package netlab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/safchain/ethtool"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sluice/tools/leaks"
	"sluice/tools/netlab"
)

// waitLimit bounds every wait of these tests. Each takes milliseconds.
const waitLimit = 20 * time.Second

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls for what the kernel does later.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitLimit); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not after %v: %s", waitLimit, what)
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
}

func newLab(t *testing.T, name string) *netlab.Lab {
	t.Helper()
	needRoot(t)
	lab, err := netlab.New(name)
	must(t, err)
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func newHost(t *testing.T, lab *netlab.Lab, name string) *netlab.Host {
	t.Helper()
	h, err := lab.Host(name)
	must(t, err)
	return h
}

// pair returns two hosts with both families on one wire: 10.0.0.1, fd00::1 and 10.0.0.2, fd00::2.
func pair(t *testing.T, name string, o netlab.LinkOptions) (a, b *netlab.Host) {
	t.Helper()
	lab := newLab(t, name)
	a, b = newHost(t, lab, "a"), newHost(t, lab, "b")
	must(t, lab.Link(a, "eth0", b, "eth0", o))
	must(t, a.Addr("eth0", "10.0.0.1/24", "fd00::1/64"))
	must(t, b.Addr("eth0", "10.0.0.2/24", "fd00::2/64"))
	return a, b
}

// sendTCP sends megabytes from one host to an address of another and compares hashes.
func sendTCP(t *testing.T, from, to *netlab.Host, addr string, megabytes int) {
	t.Helper()
	l, err := to.Listen("tcp", net.JoinHostPort(addr, "0"))
	must(t, err)
	defer l.Close()
	must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(waitLimit)))
	sent := bytes.Repeat([]byte("0123456789abcdef"), megabytes<<16)
	wrote := make(chan error, 1)
	ctx := ctxOf(t)
	go func() {
		c, err := from.Dial(ctx, "tcp", l.Addr().String())
		if err == nil {
			c.SetDeadline(time.Now().Add(waitLimit))
			_, err = c.Write(sent)
			c.Close()
		}
		wrote <- err
	}()
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	got := sha256.New()
	_, err = io.Copy(got, c)
	must(t, errors.Join(err, <-wrote))
	if want := sha256.Sum256(sent); !bytes.Equal(got.Sum(nil), want[:]) {
		t.Errorf("%s to %s: the bytes differ", from.Name(), addr)
	}
}

// askUDP sends a datagram and gets it back.
func askUDP(t *testing.T, from, to *netlab.Host, addr string) {
	t.Helper()
	server, err := to.ListenPacket("udp", net.JoinHostPort(addr, "0"))
	must(t, err)
	defer server.Close()
	c, err := from.Dial(ctxOf(t), "udp", server.LocalAddr().String())
	must(t, err)
	defer c.Close()
	must(t, errors.Join(server.SetDeadline(time.Now().Add(waitLimit)), c.SetDeadline(time.Now().Add(waitLimit))))
	_, err = c.Write([]byte("ping"))
	must(t, err)
	buf := make([]byte, 100)
	n, client, err := server.ReadFrom(buf)
	must(t, err)
	if client.String() != c.LocalAddr().String() {
		t.Errorf("%s: the server sees client %s, which is %s", addr, client, c.LocalAddr())
	}
	_, err = server.WriteTo(append(buf[:n], " pong"...), client)
	must(t, err)
	n, err = c.Read(buf)
	must(t, err)
	if string(buf[:n]) != "ping pong" {
		t.Errorf("%s: got %q back", addr, buf[:n])
	}
}

// TestTwoHosts: TCP and UDP in both families and both directions over a wire with two queues.
func TestTwoHosts(t *testing.T) {
	a, b := pair(t, "two", netlab.LinkOptions{Queues: 2})
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		sendTCP(t, a, b, addr, 8)
		askUDP(t, a, b, addr)
	}
	sendTCP(t, b, a, "10.0.0.1", 8)
	askUDP(t, b, a, "fd00::1")
}

// TestLink: a link is what its options say, seen from inside the namespace.
func TestLink(t *testing.T) {
	lab := newLab(t, "link")
	a, b := newHost(t, lab, "a"), newHost(t, lab, "b")
	must(t, lab.Link(a, "eth0", b, "left", netlab.LinkOptions{Queues: 3, MTU: 1400}))
	must(t, lab.Link(b, "right", a, "eth1", netlab.LinkOptions{KeepOffloads: true}))
	must(t, lab.Link(a, "loop0", a, "loop1", netlab.LinkOptions{}))
	for _, want := range []struct {
		h           *netlab.Host
		ifname, mac string
		queues      int
		mtu         string
	}{
		{a, "eth0", "02:4e:4c:00:01:0a", 3, "1400"},
		{b, "left", "02:4e:4c:00:01:0b", 3, "1400"},
		{b, "right", "02:4e:4c:00:02:0a", 1, "1500"},
		{a, "eth1", "02:4e:4c:00:02:0b", 1, "1500"},
		{a, "loop1", "02:4e:4c:00:03:0b", 1, "1500"},
	} {
		mac, err := want.h.MAC(want.ifname)
		must(t, err)
		if mac.String() != want.mac {
			t.Errorf("%s/%s has MAC %s, want %s", want.h.Name(), want.ifname, mac, want.mac)
		}
		// A process sees its own host in /sys.
		p, err := want.h.Start(exec.Command("sh", "-c", "cd /sys/class/net/"+want.ifname+" && echo queues $(ls queues) mtu $(cat mtu)"))
		must(t, err)
		line, err := p.WaitLine(ctxOf(t), "queues")
		must(t, err)
		var queues string
		for _, dir := range []string{"rx", "tx"} {
			for i := range want.queues {
				queues += fmt.Sprintf(" %s-%d", dir, i)
			}
		}
		if line != "queues"+queues+" mtu "+want.mtu {
			t.Errorf("%s/%s: %s, want%s and MTU %s", want.h.Name(), want.ifname, line, queues, want.mtu)
		}
	}
	if on := offloads(t, a, "eth0"); len(on) > 0 {
		t.Errorf("a/eth0 still has %v", on)
	}
	if on := offloads(t, b, "left"); len(on) > 0 {
		t.Errorf("b/left still has %v", on)
	}
	if on := offloads(t, a, "eth1"); len(on) == 0 {
		t.Error("KeepOffloads kept none")
	}
}

// offloads lists the features that matter, by another list than the package has.
func offloads(t *testing.T, h *netlab.Host, ifname string) (on []string) {
	t.Helper()
	must(t, h.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		features, err := tool.Features(ifname)
		for _, name := range []string{"tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-tcp-segmentation",
			"tx-tcp6-segmentation", "tx-generic-segmentation", "tx-udp-segmentation", "rx-gro", "tx-vlan-hw-insert"} {
			if features[name] {
				on = append(on, name)
			}
		}
		return err
	}))
	return on
}

// TestLinkErrors: what cannot be created is refused with a reason and leaves nothing behind.
func TestLinkErrors(t *testing.T) {
	lab, other := newLab(t, "link"), newLab(t, "other")
	a, b, far := newHost(t, lab, "a"), newHost(t, lab, "b"), newHost(t, other, "far")
	must(t, lab.Link(a, "eth0", b, "eth0", netlab.LinkOptions{}))
	for _, try := range []struct {
		what string
		err  error
		want string
	}{
		{"host of another lab", lab.Link(a, "eth1", far, "eth0", netlab.LinkOptions{}), "both hosts"},
		{"name in use", lab.Link(a, "eth1", b, "eth0", netlab.LinkOptions{}), "exists"},
		{"name too long", lab.Link(a, "a-name-of-seventeen", b, "eth1", netlab.LinkOptions{}), "a/a-name-of-seventeen"},
		{"address without prefix", a.Addr("eth0", "10.0.0.1"), "10.0.0.1/24"},
		{"address on nothing", a.Addr("eth7", "10.0.0.1/24"), "eth7"},
		{"lo address with prefix", a.AddLo("10.0.0.1/32"), "without prefix"},
		{"route to an address", a.Route("10.0.0.1", "10.0.0.2"), "10.0.0.0/8"},
		{"route via nothing", a.Route("10.1.0.0/16", "eth7"), "neither an address nor an interface"},
		{"neighbour of no address", a.Neigh("eth0", "b", nil), `"b"`},
		{"sysctl of the machine", a.Sysctl("kernel.panic", "1"), "only net.*"},
		{"sysctl by a detour", a.Sysctl("net/../kernel/panic", "1"), "only net.*"},
		{"sysctl unknown", a.Sysctl("net.ipv4.nonsense", "1"), "nonsense"},
		{"bridge port unknown", a.Bridge("br0", "eth7"), "eth7"},
	} {
		if try.err == nil || !strings.Contains(try.err.Error(), try.want) {
			t.Errorf("%s: error %v, want one with %q", try.what, try.err, try.want)
		}
	}
	if _, err := a.MAC("eth1"); err == nil {
		t.Error("a link that failed left its first end behind")
	}
	if _, err := lab.Host("a"); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second host a: error %v", err)
	}
	for _, bad := range []string{"", "a.b", "a/b", "-a", "A", strings.Repeat("a", 33)} {
		if _, err := lab.Host(bad); err == nil {
			t.Errorf("host name %q was taken", bad)
		}
		if _, err := netlab.New(bad); err == nil {
			t.Errorf("lab name %q was taken", bad)
		}
	}
}

// TestBridge: three hosts on a switch reach each other in both families.
func TestBridge(t *testing.T) {
	lab := newLab(t, "bridge")
	sw := newHost(t, lab, "switch")
	var hosts []*netlab.Host
	var ports []string
	for i := 1; i <= 3; i++ {
		h := newHost(t, lab, fmt.Sprintf("h%d", i))
		must(t, lab.Link(h, "eth0", sw, h.Name(), netlab.LinkOptions{}))
		must(t, h.Addr("eth0", fmt.Sprintf("10.0.0.%d/24", i), fmt.Sprintf("fd00::%d/64", i)))
		hosts, ports = append(hosts, h), append(ports, h.Name())
	}
	must(t, sw.Bridge("br0", ports...))
	for i, from := range hosts {
		to := (i + 1) % 3
		askUDP(t, from, hosts[to], fmt.Sprintf("10.0.0.%d", to+1))
		askUDP(t, from, hosts[to], fmt.Sprintf("fd00::%d", to+1))
	}
	sendTCP(t, hosts[0], hosts[2], "10.0.0.3", 4)
}

// TestRoute: a host in the middle forwards, and a removed route is gone.
func TestRoute(t *testing.T) {
	lab := newLab(t, "route")
	a, r, b := newHost(t, lab, "a"), newHost(t, lab, "r"), newHost(t, lab, "b")
	must(t, lab.Link(a, "eth0", r, "west", netlab.LinkOptions{}))
	must(t, lab.Link(r, "east", b, "eth0", netlab.LinkOptions{}))
	must(t, a.Addr("eth0", "10.1.0.2/24", "fd00:1::2/64"))
	must(t, r.Addr("west", "10.1.0.1/24", "fd00:1::1/64"))
	must(t, r.Addr("east", "10.2.0.1/24", "fd00:2::1/64"))
	must(t, b.Addr("eth0", "10.2.0.2/24", "fd00:2::2/64"))
	must(t, r.Sysctl("net.ipv4.ip_forward", "1"))
	must(t, r.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	must(t, a.Route("0.0.0.0/0", "10.1.0.1"))
	must(t, a.Route("::/0", "fd00:1::1"))
	must(t, b.Route("10.1.0.0/24", "10.2.0.1"))
	must(t, b.Route("fd00:1::/64", "fd00:2::1"))
	askUDP(t, a, b, "10.2.0.2")
	askUDP(t, a, b, "fd00:2::2")
	must(t, a.RouteDel("0.0.0.0/0", "10.1.0.1"))
	if _, err := a.Dial(ctxOf(t), "udp", "10.2.0.2:1"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("without a route: error %v", err)
	}
}

// TestVIPOnLo: a VIP on lo is served but not announced, in either family; an address put on lo
// without AddLo is announced, in IPv4.
func TestVIPOnLo(t *testing.T) {
	lab := newLab(t, "vip")
	a, b, careless := newHost(t, lab, "a"), newHost(t, lab, "b"), newHost(t, lab, "careless")
	sw := newHost(t, lab, "switch")
	for i, h := range []*netlab.Host{a, b, careless} {
		must(t, lab.Link(h, "eth0", sw, h.Name(), netlab.LinkOptions{}))
		must(t, h.Addr("eth0", fmt.Sprintf("10.0.0.%d/24", i+1), fmt.Sprintf("fd00::%d/64", i+1)))
	}
	must(t, sw.Bridge("br0", "a", "b", "careless"))
	must(t, b.AddLo("198.51.100.10"))
	must(t, b.AddLo("2001:db8::10"))
	must(t, careless.Addr("lo", "198.51.100.99/32"))
	must(t, a.Route("198.51.100.0/24", "eth0"))
	must(t, a.Route("2001:db8::/64", "eth0"))
	// Make the client give up asking after 3 * 50 ms.
	must(t, a.Sysctl("net.ipv4.neigh.eth0.retrans_time_ms", "50"))
	must(t, a.Sysctl("net.ipv6.neigh.eth0.retrans_time_ms", "50"))
	mac, err := b.MAC("eth0")
	must(t, err)

	sendTCP(t, a, careless, "198.51.100.99", 1)
	for _, vip := range []string{"198.51.100.10", "2001:db8::10"} {
		if c, err := a.Dial(ctxOf(t), "tcp", net.JoinHostPort(vip, "80")); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%s without a neighbour entry: connection %v, error %v; want EHOSTUNREACH", vip, c, err)
		}
		// What a balancer of mode dr does: the frame goes to the backend's MAC.
		must(t, a.Neigh("eth0", vip, mac))
		sendTCP(t, a, b, vip, 1)
		askUDP(t, a, b, vip)
		must(t, a.NeighDel("eth0", vip))
		if c, err := a.Dial(ctxOf(t), "tcp", net.JoinHostPort(vip, "80")); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%s, neighbour entry removed: connection %v, error %v; want EHOSTUNREACH", vip, c, err)
		}
	}
}

// TestLinkDownUp: frames flow again as soon as the wire is back.
func TestLinkDownUp(t *testing.T) {
	a, b := pair(t, "flap", netlab.LinkOptions{})
	askUDP(t, a, b, "10.0.0.2")
	for range 3 {
		must(t, b.LinkDown("eth0"))
		must(t, b.LinkUp("eth0"))
		sendTCP(t, a, b, "10.0.0.2", 1)
		sendTCP(t, a, b, "fd00::2", 1)
	}
	must(t, b.LinkDel("eth0"))
	if _, err := a.MAC("eth0"); err == nil {
		t.Error("a wire with one end removed is still there")
	}
}

// TestDo: what f returns, panics with or exits by reaches the caller, and no thread stays inside.
func TestDo(t *testing.T) {
	lab := newLab(t, "do")
	a, b := newHost(t, lab, "a"), newHost(t, lab, "b")
	outside := netnsOf("/proc/self/ns/net")
	inside := map[string]string{}
	must(t, a.Do(func() error {
		inside["a"] = netnsOf("/proc/thread-self/ns/net")
		return b.Do(func() error {
			inside["b"] = netnsOf("/proc/thread-self/ns/net")
			return nil
		})
	}))
	if inside["a"] == outside || inside["b"] == outside || inside["a"] == inside["b"] {
		t.Errorf("not three namespaces: %v and %s outside", inside, outside)
	}
	if err := a.Do(func() error { return io.ErrNoProgress }); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v did not come through", err)
	}
	func() {
		defer func() {
			if p := recover(); !strings.Contains(fmt.Sprint(p), "boom") {
				t.Errorf("the panic did not come through: %v", p)
			}
		}()
		a.Do(func() error { panic("boom") })
	}()
	exited := make(chan bool)
	go func() {
		defer close(exited)
		a.Do(func() error { runtime.Goexit(); return nil })
		t.Error("the caller went on after Goexit")
	}()
	<-exited
	must(t, lab.Close())
	eventually(t, "all threads outside", func() bool { return threadsElsewhere() == 0 })
}

func netnsOf(path string) string {
	id, err := os.Readlink(path)
	if err != nil {
		return err.Error()
	}
	return id
}

// threadsElsewhere counts this process's threads that are in another namespace than the main
// thread.
func threadsElsewhere() (n int) {
	paths, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, path := range paths {
		id, err := os.Readlink(path)
		if err == nil && id != netnsOf("/proc/self/ns/net") {
			n++
		}
	}
	return n
}

// TestSocketsNeedLiterals: names would be looked up outside.
func TestSocketsNeedLiterals(t *testing.T) {
	a := newHost(t, newLab(t, "literals"), "a")
	for _, addr := range []string{"localhost:80", "10.0.0.1", "[fe80::1%eth0]:80"} {
		if _, err := a.Dial(ctxOf(t), "tcp", addr); err == nil || !strings.Contains(err.Error(), "literal") {
			t.Errorf("dialling %s: error %v", addr, err)
		}
	}
	// lo is up, and :port is allowed.
	l, err := a.Listen("tcp", ":0")
	must(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c, err := a.DialFrom(ctxOf(t), "tcp", "127.0.0.1:5000", "127.0.0.1:"+port)
	must(t, err)
	defer c.Close()
	if got := c.LocalAddr().String(); got != "127.0.0.1:5000" {
		t.Errorf("dialled from %s", got)
	}
	u, err := a.DialFrom(ctxOf(t), "udp", "127.0.0.1:5000", "127.0.0.1:5001")
	must(t, err)
	must(t, u.Close())
}

// TestClosed: a closed lab refuses everything and closes at once what CloseLater is given.
func TestClosed(t *testing.T) {
	lab := newLab(t, "closed")
	a := newHost(t, lab, "a")
	must(t, lab.Close())
	must(t, lab.Close())
	_, errHost := lab.Host("b")
	_, errListen := a.Listen("tcp", ":0")
	_, errStart := a.Start(exec.Command("true"))
	for what, err := range map[string]error{"Host": errHost, "Listen": errListen, "Start": errStart, "LinkUp": a.LinkUp("lo"),
		"Do": a.Do(func() error { return nil }), "Link": lab.Link(a, "eth0", a, "eth1", netlab.LinkOptions{})} {
		if err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("%s on a closed lab: error %v", what, err)
		}
	}
	var late closer
	lab.CloseLater(&late)
	if late.closed != 1 {
		t.Errorf("a late closer was closed %d times", late.closed)
	}
}

type closer struct {
	err    error
	closed int
}

func (c *closer) Close() error { c.closed++; return c.err }

// TestCloseAfterFailure: one failure does not keep the rest from being cleaned up, and is reported.
func TestCloseAfterFailure(t *testing.T) {
	needRoot(t)
	lab, err := netlab.New("failing")
	must(t, err)
	a, b, c := newHost(t, lab, "a"), newHost(t, lab, "b"), newHost(t, lab, "c")
	first, second := &closer{err: io.ErrClosedPipe}, &closer{}
	lab.CloseLater(first)
	lab.CloseLater(second)
	p, err := c.Start(exec.Command("sleep", "600"))
	must(t, err)
	// Someone removed one name, and put something into the place of another that cannot be
	// unlinked.
	must(t, unix.Unmount("/run/netns/"+a.Namespace(), unix.MNT_DETACH))
	must(t, os.Remove("/run/netns/"+a.Namespace()))
	obstacle := "/run/netns/" + b.Namespace()
	must(t, unix.Unmount(obstacle, unix.MNT_DETACH))
	must(t, os.Remove(obstacle))
	must(t, os.MkdirAll(obstacle+"/x", 0o755))
	defer os.RemoveAll(obstacle)

	err = lab.Close()
	if !errors.Is(err, io.ErrClosedPipe) || !strings.Contains(err.Error(), b.Namespace()) {
		t.Errorf("error %v; want one that names the closer's failure and %s", err, b.Namespace())
	}
	if again := lab.Close(); !errors.Is(again, err) {
		t.Errorf("the second Close says %v", again)
	}
	if first.closed != 1 || second.closed != 1 {
		t.Errorf("closers closed %d and %d times", first.closed, second.closed)
	}
	if left := names(t, "failing"); !cmp.Equal(left, []string{b.Namespace()}) {
		t.Errorf("left behind: %v", left)
	}
	if err := p.Wait(); err == nil {
		t.Error("the process was not killed")
	}
}

// names lists the named namespaces of a lab that this process made.
func names(t *testing.T, lab string) (found []string) {
	t.Helper()
	entries, err := os.ReadDir("/run/netns")
	must(t, err)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "netlab."+lab+".") && strings.Contains(e.Name(), fmt.Sprintf(".%d.", os.Getpid())) {
			found = append(found, e.Name())
		}
	}
	return found
}

// TestNothingLeft: labs come and go without a trace in descriptors, goroutines, threads, processes
// and namespaces.
func TestNothingLeft(t *testing.T) {
	needRoot(t)
	cycle := func() {
		lab, err := netlab.New("leak")
		must(t, err)
		defer lab.Close()
		a, b := newHost(t, lab, "a"), newHost(t, lab, "b")
		must(t, lab.Link(a, "eth0", b, "eth0", netlab.LinkOptions{Queues: 2, PeerXDP: true}))
		must(t, a.Addr("eth0", "10.0.0.1/24"))
		must(t, b.Addr("eth0", "10.0.0.2/24"))
		sendTCP(t, a, b, "10.0.0.2", 1)
		// A process with a child that outlives it and keeps its output open.
		p, err := b.Start(exec.Command("sh", "-c", "setsid sleep 600 & echo up; wait"))
		must(t, err)
		_, err = p.WaitLine(ctxOf(t), "up")
		must(t, err)
		must(t, lab.Close())
		if err := p.Wait(); err == nil {
			t.Error("the process was not killed")
		}
	}
	cycle() // makes what the runtime makes once
	files, before := openFiles(t), goleak.IgnoreCurrent()
	for range 3 {
		cycle()
	}
	must(t, leaks.Find(before))
	if now := openFiles(t); now != files {
		t.Errorf("%d open files, %d before", now, files)
	}
	if left := names(t, "leak"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	eventually(t, "all threads outside", func() bool { return threadsElsewhere() == 0 })
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestSweep: after kill -9 of the maker, the next lab finds and removes what it left.
func TestSweep(t *testing.T) {
	needRoot(t)
	maker := exec.Command("/proc/self/exe")
	maker.Env = append(os.Environ(), makerEnv+"=1")
	out, err := maker.StdoutPipe()
	must(t, err)
	must(t, maker.Start())
	defer maker.Process.Kill()
	var namespace string
	var process, child int
	if _, err := fmt.Fscanf(out, "ready %s process %d child %d\n", &namespace, &process, &child); err != nil {
		t.Fatalf("the maker did not get ready: %v", err)
	}
	named := func() bool {
		_, err := os.Lstat("/run/netns/" + namespace)
		return err == nil
	}
	// While the maker lives, its lab is left alone.
	newLab(t, "living")
	if !alive(process) || !alive(child) || !named() {
		t.Fatal("the lab of a living process was touched")
	}
	// Labs that other programs make at this time sweep, too; they wait for the lock before they do.
	lock, err := os.Open("/run/netns")
	must(t, err)
	must(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	must(t, maker.Process.Kill())
	maker.Wait()
	eventually(t, "the process dies with the maker", func() bool { return !alive(process) })
	if !alive(child) || !named() {
		t.Fatalf("nothing to sweep: child alive %t, namespace there %t", alive(child), named())
	}
	must(t, lock.Close())
	newLab(t, "sweeping")
	if alive(child) || named() {
		t.Errorf("after the sweep: child alive %t, namespace there %t", alive(child), named())
	}
}

// alive returns false for a zombie, which only waits for its parent.
func alive(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil
}
