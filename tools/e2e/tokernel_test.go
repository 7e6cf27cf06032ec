package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/tools/e2e/testbed"
)

// gateway makes the balancer a gateway of the backends that filters strictly by source address, as
// many distributions do. The end of the test undoes it.
func gateway(t *testing.T, b *testbed.Bed) {
	t.Helper()
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"} {
		must(t, b.Balancer.Sysctl(key, "1"))
		t.Cleanup(func() { must(t, b.Balancer.Sysctl(key, "0")) })
	}
}

// anyPorts adds services on all ports to a configuration: for TCP and UDP of each nat path.
func anyPorts(cfg testbed.Config) testbed.Config {
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			continue
		}
		for _, s := range []testbed.Service{p.Web(), p.Datagrams()} {
			s.Name, s.Port = "any-"+s.Name, "any"
			for i := range s.Backends {
				s.Backends[i].Port = 0
			}
			cfg.Services = append(cfg.Services, s)
		}
	}
	return cfg
}

// echoes answers every datagram at an address of the client, until the end of the test.
func echoes(t *testing.T, b *testbed.Bed, address string) {
	t.Helper()
	server, err := b.Client.ListenPacket("udp", address)
	must(t, err)
	t.Cleanup(func() { server.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
}

// askUntil sends queries until an answer comes, which it returns. An ICMP error is an error of the
// socket.
func askUntil(ctx context.Context, c net.Conn) (string, error) {
	buf := make([]byte, 2048)
	for n := 0; ctx.Err() == nil; n++ {
		if _, err := fmt.Fprintf(c, "query %d", n); err != nil {
			return "", err
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return "", err
		}
		got, err := c.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil || bytes.HasPrefix(buf[:got], []byte("query")) {
			return string(buf[:got]), err
		}
	}
	return "", ctx.Err()
}

// kernelDevices returns the names of the balancer's devices for packets that are the kernel's.
func kernelDevices(t *testing.T, b *testbed.Bed) (names []string) {
	t.Helper()
	must(t, b.Balancer.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, "sluice-kernel") {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	}))
	return names
}

// TestBackendsOwnPackets: a nat backend of services on all ports queries others over UDP through
// the balancer, its gateway, and gets answers and ICMP errors, in both directions. A TCP connection
// that it opened before the daemon started goes on.
func TestBackendsOwnPackets(t *testing.T) {
	b := bed(t)
	gateway(t, b)
	var early []net.Conn
	for _, p := range testbed.Paths {
		if p.Mode == "nat" {
			early = append(early, openedBefore(t, b, p))
		}
	}
	d := start(t, b, anyPorts(config(t, testbed.Paths...)))
	if names := kernelDevices(t, b); len(names) != 1 {
		t.Errorf("devices: %q, want one", names)
	}
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			continue
		}
		host := b.Backends[0]
		server := netip.AddrPortFrom(p.Client(), 5454).String()
		echoes(t, b, server)
		c, err := host.Host.Dial(ctxOf(t), "udp", server)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		if _, err := askUntil(ctxOf(t), c); err != nil {
			t.Errorf("%s: a query of the backend: %v", p, err)
		}
		closed := netip.AddrPortFrom(p.Client(), 5455).String()
		if c, err = host.Host.Dial(ctxOf(t), "udp", closed); err == nil {
			t.Cleanup(func() { c.Close() })
			_, err = askUntil(ctxOf(t), c)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: a query of the backend to a closed port: %v, want an ICMP error", p, err)
		}
		// The backend's ICMP error about a packet that did not pass Sluice.
		if c, err = b.Client.Dial(ctxOf(t), "udp", netip.AddrPortFrom(host.Addr(p.Backend), 5456).String()); err == nil {
			t.Cleanup(func() { c.Close() })
			_, err = askUntil(ctxOf(t), c)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: a packet to the backend's closed port: %v, want an ICMP error", p, err)
		}
		works(t, b, p)
	}
	for _, c := range early {
		must(t, c.SetDeadline(time.Now().Add(waitLimit)))
		if _, err := askUntil(ctxOf(t), c); err != nil {
			t.Errorf("a connection that the backend opened before the daemon started: %v", err)
		}
	}
	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if n := after.ToKernel - before.ToKernel; n < 8 || after.ToKernelFailed != 0 {
		t.Errorf("%d packets were given to the kernel, and it did not take %d", n, after.ToKernelFailed)
	}
	if n := after.Dropped() - before.Dropped(); n != 0 {
		t.Errorf("%d packets were dropped: %v", n, after.Drops)
	}
	must(t, d.Stop())
	if names := kernelDevices(t, b); len(names) != 0 {
		t.Errorf("devices are left: %q", names)
	}
}

// openedBefore opens a TCP connection from the first backend to an echoing server at the client.
func openedBefore(t *testing.T, b *testbed.Bed, p testbed.Path) net.Conn {
	t.Helper()
	listener, err := b.Client.Listen("tcp", netip.AddrPortFrom(p.Client(), 5457).String())
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		server, err := listener.Accept()
		if err != nil {
			return
		}
		defer server.Close()
		buf := make([]byte, 2048)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			_, _ = server.Write(buf[:n])
		}
	}()
	c, err := b.Backends[0].Host.Dial(ctxOf(t), "tcp", listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = askUntil(ctxOf(t), c)
	must(t, err)
	return c
}

// TestBackendMasquerades: with the usual masquerading of a gateway, what a backend sends of its own
// accord has the balancer's address outside, and answers reach the backend.
func TestBackendMasquerades(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal("nft is missing: apt-get install nftables")
	}
	b := bed(t)
	gateway(t, b)
	filter := func(command string) {
		must(t, b.Balancer.Do(func() error {
			if output, err := exec.CommandContext(ctxOf(t), nft, command).CombinedOutput(); err != nil {
				return fmt.Errorf("nft %s: %w: %s", command, err, output)
			}
			return nil
		}))
	}
	filter("add table inet gateway")
	t.Cleanup(func() { filter("delete table inet gateway") })
	filter("add chain inet gateway post { type nat hook postrouting priority srcnat; }")
	filter("add rule inet gateway post oifname " + testbed.Front + " masquerade")
	d := start(t, b, anyPorts(config(t, testbed.Paths...)))
	for _, p := range testbed.Paths {
		if p.Mode != "nat" {
			continue
		}
		address := netip.AddrPortFrom(p.Client(), 5459).String()
		server, err := b.Client.ListenPacket("udp", address)
		must(t, err)
		t.Cleanup(func() { server.Close() })
		go func() { // answers with the address that asks
			buf := make([]byte, 2048)
			for {
				_, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = server.WriteTo([]byte("query from "+from.String()), from)
			}
		}()
		c, err := b.Backends[0].Host.Dial(ctxOf(t), "udp", address)
		must(t, err)
		t.Cleanup(func() { c.Close() })
		answer, err := askUntil(ctxOf(t), c)
		from, _ := netip.ParseAddrPort(strings.TrimPrefix(answer, "query from "))
		if err != nil || from.Addr() != testbed.OwnFront(p.Family) {
			t.Errorf("%s: the answer to a query of the backend is %q, %v; want %s in it", p, answer, err, testbed.OwnFront(p.Family))
		}
		if err := echoed(ctxOf(t), b.Backends[0], p.Client()); err != nil {
			t.Errorf("%s: ping from the backend: %v", p, err)
		}
		works(t, b, p)
	}
	stats, err := d.Quiet(ctxOf(t))
	must(t, err)
	if stats.ToKernel < 2 || stats.ToKernelFailed != 0 {
		t.Errorf("%d packets were given to the kernel, and it did not take %d", stats.ToKernel, stats.ToKernelFailed)
	}
}

// echoed sends ICMP echo requests from a backend to an address until one is answered.
func echoed(ctx context.Context, b *testbed.Backend, to netip.Addr) error {
	network, request, reply := "ip4:icmp", []byte{8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1}, byte(0)
	if to.Is6() {
		// The kernel computes the checksum.
		network, request, reply = "ip6:ipv6-icmp", []byte{128, 0, 0, 0, 0x12, 0x34, 0, 1}, 129
	}
	var c net.Conn
	if err := b.Host.Do(func() (err error) {
		c, err = net.Dial(network, to.String())
		return err
	}); err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 2048)
	for ctx.Err() == nil {
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return err
		}
		for {
			n, err := c.Read(buf)
			if err != nil {
				break // ask again
			}
			message := buf[:n]
			if to.Is4() && n >= 20 { // comes with its header
				message = buf[20:n]
			}
			if len(message) >= 8 && message[0] == reply && message[4] == 0x12 && message[5] == 0x34 {
				return nil
			}
		}
	}
	return ctx.Err()
}

// TestBackendFloods: what a backend sends of its own accord beyond the limit is dropped by name,
// and the service works after it.
func TestBackendFloods(t *testing.T) {
	b := bed(t)
	gateway(t, b)
	d := start(t, b, anyPorts(config(t, testbed.Paths...)))
	p := testbed.Paths[0]
	sink, err := b.Client.ListenPacket("udp", netip.AddrPortFrom(p.Client(), 5458).String())
	must(t, err)
	t.Cleanup(func() { sink.Close() })
	c, err := b.Backends[0].Host.Dial(ctxOf(t), "udp", sink.LocalAddr().String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	dropped := func() uint64 {
		stats, err := d.Quiet(ctxOf(t))
		must(t, err)
		return stats.Drops["kernel_limit"] + stats.Drops["kernel_full"]
	}
	for round := 0; dropped() == 0; round++ {
		if round == 50 {
			t.Fatal("nothing was dropped of a million packets")
		}
		for range 20_000 {
			_, _ = c.Write([]byte("flood")) // ENOBUFS when the link is full
		}
	}
	works(t, b, p)
	stats, err := d.Quiet(ctxOf(t))
	must(t, err)
	t.Logf("received %d, to the kernel %d, dropped %v", stats.Rx, stats.ToKernel, stats.Drops)
	text, err := d.Verb(ctxOf(t), "stats")
	must(t, err)
	if !strings.Contains(text, fmt.Sprintf(" + to the kernel %d + ", stats.ToKernel)) || !strings.Contains(text, "kernel_") {
		t.Errorf("stats:\n%s", text)
	}
}
