package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// TestIdleBeyondTimeout: when a connection that both ends keep open, and wait on, is idle for its
// timeout, both get "connection reset by peer".
func TestIdleBeyondTimeout(t *testing.T) {
	b := bed(t)
	cfg := config(t)
	var listeners []net.Listener
	for i, p := range through {
		s := p.Web()
		s.Port, s.Timeouts = 9100+i, map[string]string{"tcp_established": "2s"}
		s.Backends = []testbed.Server{{Address: b.Backends[0].Addr(p.Backend).String(), Port: 9100 + i}}
		cfg.Services = append(cfg.Services, s)
		l, err := b.Backends[0].Host.Listen("tcp", net.JoinHostPort(s.Backends[0].Address, fmt.Sprint(9100+i)))
		must(t, err)
		t.Cleanup(func() { l.Close() })
		listeners = append(listeners, l)
	}
	d := start(t, b, cfg)
	opened := time.Now()
	ends := make(map[string]net.Conn)
	for i, p := range through {
		client, err := b.Client.Dial(ctxOf(t), "tcp", cfg.Services[i].Endpoint())
		must(t, err)
		t.Cleanup(func() { client.Close() })
		must(t, listeners[i].(*net.TCPListener).SetDeadline(time.Now().Add(waitLimit)))
		server, err := listeners[i].Accept()
		must(t, err)
		t.Cleanup(func() { server.Close() })
		for _, c := range []net.Conn{client, server} {
			must(t, c.SetDeadline(time.Now().Add(waitLimit)))
		}
		exchange(t, client, server)
		exchange(t, server, client)
		ends[p.String()+", client"], ends[p.String()+", backend"] = client, server
	}
	for name, end := range ends {
		if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %s after the connection was opened", name, time.Since(opened))
	}
	out, err := d.Verb(ctxOf(t), "stats")
	must(t, err)
	if want := fmt.Sprintf("idle_reset   %d connections", len(through)); !strings.Contains(out, want) {
		t.Errorf("the counters do not have %q:\n%s", want, out)
	}
}

// exchange sends some bytes from one end of a connection to the other.
func exchange(t *testing.T, from, to net.Conn) {
	t.Helper()
	_, err := io.WriteString(from, "hello")
	must(t, err)
	_, err = io.ReadFull(to, make([]byte, 5))
	must(t, err)
}
