package e2e_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// TestNoWorker: the daemon is killed, and what would start it again is stopped, while datagrams for
// a service go on. What the host itself receives on the same queue goes on meanwhile: a ping, and a
// TCP session. The kernel, which has the VIP, answers nothing. Each datagram is counted once over
// both processes, and those that a dead worker would have got are no_worker.
func TestNoWorker(t *testing.T) {
	b := bed(t)
	d, err := b.Keep(ctxOf(t), config(t, nat4))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	echo := hostEcho(t, b)
	before, err := d.Quiet(ctxOf(t))
	must(t, err)

	child, err := d.Child()
	must(t, err)
	must(t, d.Process.Signal(syscall.SIGSTOP))
	resume := func() { must(t, d.Process.Signal(syscall.SIGCONT)) }
	t.Cleanup(resume)
	mark := d.Process.Mark()
	must(t, child.Kill())

	ping := hostPing(t, b)
	c, err := b.Client.Dial(ctxOf(t), "udp", nat4.UDP())
	must(t, err)
	defer c.Close()
	const datagrams = 300
	const late = 20            // segments of tests before this one, at most
	for i := range datagrams { // three seconds, ten times what a worker may be silent
		if _, err := c.Write(fmt.Appendf(nil, "datagram %d", i)); err != nil {
			t.Fatalf("the kernel of the balancer has answered for the service: %v", err)
		}
		if i%10 == 0 {
			echo(fmt.Sprintf("line %d\n", i))
			ping(uint16(i))
		}
		time.Sleep(10 * time.Millisecond) // not to wait: the rate of the datagrams
	}
	resume()
	_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
	must(t, err)
	var after api.Stats
	poll(t, "each datagram is counted", func() error {
		if after, err = d.Quiet(ctxOf(t)); err != nil {
			return err
		}
		was, is := before.Ports[0].XDP, after.Ports[0].XDP
		if n := is.Redirected - was.Redirected + is.NoSocket - was.NoSocket + is.NoWorker - was.NoWorker; n < datagrams || n > datagrams+late {
			return fmt.Errorf("%d are: %+v, then %+v", n, was, is)
		}
		return nil
	})
	if n := after.Ports[0].XDP.NoWorker - before.Ports[0].XDP.NoWorker; n < datagrams/2 {
		t.Errorf("%d of %d datagrams are no_worker", n, datagrams)
	}
	echo("after\n")
	if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
		t.Errorf("3 requests after it went %s: %v", &s, s.Errors)
	}
}

// hostEcho opens a TCP session from the client to the balancer itself. It returns a function that
// sends a line, and waits until it comes back.
func hostEcho(t *testing.T, b *testbed.Bed) func(line string) {
	t.Helper()
	l, err := b.Balancer.Listen("tcp", net.JoinHostPort(testbed.OwnFront(4).String(), "2222"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := b.Client.Dial(ctxOf(t), "tcp", l.Addr().String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return func(line string) {
		t.Helper()
		must(t, c.SetDeadline(time.Now().Add(waitLimit)))
		_, err := io.WriteString(c, line)
		must(t, err)
		back := make([]byte, len(line))
		if _, err := io.ReadFull(c, back); err != nil || string(back) != line {
			t.Fatalf("a TCP session of the host: sent %q, got %q: %v", line, back, err)
		}
	}
}

// hostPing returns a function that pings the balancer itself from the client, and waits for the
// answer.
func hostPing(t *testing.T, b *testbed.Bed) func(sequence uint16) {
	t.Helper()
	var c net.Conn
	must(t, b.Client.Do(func() (err error) {
		c, err = net.Dial("ip4:icmp", testbed.OwnFront(4).String())
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return func(sequence uint16) {
		t.Helper()
		must(t, c.SetDeadline(time.Now().Add(waitLimit)))
		const request, sum = 8 << 8, 0xffff - 8<<8 // type, and the checksum without a number
		message := binary.BigEndian.AppendUint16(nil, request)
		message = binary.BigEndian.AppendUint16(message, sum-sequence)
		message = binary.BigEndian.AppendUint32(message, uint32(sequence))
		_, err := c.Write(message)
		must(t, err)
		const header = 20 // of IP
		for answer := make([]byte, 64); ; {
			n, err := c.Read(answer)
			if err != nil {
				t.Fatalf("the host does not answer a ping: %v", err)
			}
			if n == header+len(message) && answer[header] == 0 && binary.BigEndian.Uint16(answer[header+6:]) == sequence {
				return
			}
		}
	}
}
