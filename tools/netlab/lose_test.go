package netlab_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
)

// TestLoseTCP: an interface that loses every TCP segment loses nothing else, and counts; one that
// loses none passes all.
func TestLoseTCP(t *testing.T) {
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		for _, percent := range []int32{0, 100} {
			t.Run(fmt.Sprintf("%d %% to %s", percent, addr), func(t *testing.T) { loseTCP(t, addr, percent) })
		}
	}
}

func loseTCP(t *testing.T, addr string, percent int32) {
	lab := newLab(t, "lose")
	client, server := newHost(t, lab, "client"), newHost(t, lab, "server")
	must(t, lab.Link(client, "eth0", server, "eth0", netlab.LinkOptions{}))
	must(t, client.Addr("eth0", "10.0.0.1/24", "fd00::1/64"))
	must(t, server.Addr("eth0", "10.0.0.2/24", "fd00::2/64"))
	loss, err := server.LoseTCP("eth0", percent)
	must(t, err)
	endpoint := net.JoinHostPort(addr, "7000")
	l, err := server.Listen("tcp", endpoint)
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	dialled := make(chan error, 1)
	go func() {
		c, err := client.Dial(ctx, "tcp", endpoint)
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	if percent > 0 {
		eventually(t, "a segment is lost", func() bool {
			_, lost, err := loss.Counts()
			must(t, err)
			return lost > 0
		})
		cancel()
	}
	select {
	case err := <-dialled:
		if (err == nil) != (percent == 0) {
			t.Errorf("the connection: %v", err)
		}
	case <-time.After(2 * waitLimit):
		t.Error("the connection neither opens nor fails")
	}
	passed, lost, err := loss.Counts()
	must(t, err)
	if (passed > 0) != (percent == 0) || (lost > 0) == (percent == 0) {
		t.Errorf("%d segments passed and %d were lost", passed, lost)
	}
}

// TestLoseTOS: an interface loses what has one type of service, and passes everything else.
func TestLoseTOS(t *testing.T) {
	lab := newLab(t, "tos")
	client, server := newHost(t, lab, "client"), newHost(t, lab, "server")
	must(t, lab.Link(client, "eth0", server, "eth0", netlab.LinkOptions{}))
	must(t, client.Addr("eth0", "10.0.0.1/24"))
	must(t, server.Addr("eth0", "10.0.0.2/24"))
	loss, err := server.LoseTOS("eth0", 4)
	must(t, err)
	in, err := server.ListenPacket("udp", "10.0.0.2:7000")
	must(t, err)
	defer in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	out, err := client.Dial(ctx, "udp", "10.0.0.2:7000")
	must(t, err)
	defer out.Close()
	raw, err := out.(*net.UDPConn).SyscallConn()
	must(t, err)
	for _, tos := range []int{4, 8} { // the one that is lost, then one that is not
		must(t, raw.Control(func(fd uintptr) { must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, tos)) }))
		_, err = fmt.Fprint(out, tos)
		must(t, err)
	}
	must(t, in.SetReadDeadline(time.Now().Add(waitLimit)))
	text := make([]byte, 8)
	n, _, err := in.ReadFrom(text)
	must(t, err)
	if string(text[:n]) != "8" {
		t.Errorf("the first datagram that came is %q", text[:n])
	}
	if passed, lost, err := loss.Counts(); err != nil || passed == 0 || lost != 1 {
		t.Errorf("%d packets passed and %d were lost: %v", passed, lost, err)
	}
}

// TestCountRST: an interface counts the RSTs that it receives, and no other segments.
func TestCountRST(t *testing.T) {
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		t.Run(addr, func(t *testing.T) {
			lab := newLab(t, "rst")
			client, server := newHost(t, lab, "client"), newHost(t, lab, "server")
			must(t, lab.Link(client, "eth0", server, "eth0", netlab.LinkOptions{}))
			must(t, client.Addr("eth0", "10.0.0.1/24", "fd00::1/64"))
			must(t, server.Addr("eth0", "10.0.0.2/24", "fd00::2/64"))
			resets, err := client.CountRST("eth0")
			must(t, err)
			l, err := server.Listen("tcp", net.JoinHostPort(addr, "7000"))
			must(t, err)
			defer l.Close()
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			c, err := client.Dial(ctx, "tcp", net.JoinHostPort(addr, "7000"))
			must(t, err)
			c.Close()
			for range 3 {
				if _, err := client.Dial(ctx, "tcp", net.JoinHostPort(addr, "7001")); err == nil {
					t.Fatal("a port without a listener accepts")
				}
			}
			if others, n, err := resets.Counts(); err != nil || n != 3 || others == 0 {
				t.Errorf("%d RSTs for three refused connections, and %d other segments: %v", n, others, err)
			}
		})
	}
}
