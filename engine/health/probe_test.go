package health_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	. "sluice/engine/health"
)

// slow is the timeout of probes that must not end by timeout.
const slow = 20 * time.Second

// fails checks that the probe fails with an error that contains words.
func fails(t *testing.T, c Check, words string) {
	t.Helper()
	if err := Probe(t.Context(), c); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%s check: error %v, want one about %q", c.Type, err, words)
	}
}

func works(t *testing.T, c Check) {
	t.Helper()
	if err := Probe(t.Context(), c); err != nil {
		t.Errorf("%s check: %v", c.Type, err)
	}
}

// serve accepts connections on the loopback interface and passes each to handle.
func serve(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// closedPort returns an address that refuses what is sent to it. A socket holds it until the test
// ends, so that no other process listens there: one that does not listen, or has another peer.
func closedPort(t *testing.T, kind int) netip.AddrPort {
	t.Helper()
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err = unix.Bind(fd, loopback); err == nil && kind == unix.SOCK_DGRAM {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: loopback.Addr, Port: 9})
	}
	held, nameErr := unix.Getsockname(fd)
	if err = errors.Join(err, nameErr); err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(loopback.Addr), uint16(held.(*unix.SockaddrInet4).Port))
}

func TestTCP(t *testing.T) {
	greeter := serve(t, func(c net.Conn) {
		fmt.Fprint(c, "220 mail.example.org ESMTP\r\n")
		line := make([]byte, 6)
		if _, err := io.ReadFull(c, line); err == nil {
			fmt.Fprint(c, "221 bye\r\n")
		}
	})
	works(t, Check{Type: TCP, Target: greeter, Timeout: slow})
	works(t, Check{Type: TCP, Target: greeter, Timeout: slow, Expect: "220 "})
	works(t, Check{Type: TCP, Target: greeter, Timeout: slow, Send: "QUIT\r\n", Expect: "220"})
	fails(t, Check{Type: TCP, Target: greeter, Timeout: slow, Expect: "SSH-2.0"}, `begins with "220 mai", expected "SSH-2.0"`)
	fails(t, Check{Type: TCP, Target: closedPort(t, unix.SOCK_STREAM), Timeout: slow}, "connection refused")
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "ok %s %s", r.Host, r.URL.RawQuery)
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/broken", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	})
	for kind, start := range map[Type]func(http.Handler) *httptest.Server{HTTP: httptest.NewServer, HTTPS: httptest.NewTLSServer} {
		server := start(mux)
		server.Config.ErrorLog = nil
		c := Check{Type: kind, Target: netip.MustParseAddrPort(server.Listener.Addr().String()), Timeout: slow, Path: "/healthz"}
		works(t, c)
		c.Host, c.Path, c.ExpectBody = "www.example.org", "/healthz?deep=1", "ok www.example.org deep=1"
		works(t, c)
		c.ExpectBody = "something else"
		fails(t, c, `does not contain "something else"`)
		c.ExpectBody, c.Path = "", "/broken"
		fails(t, c, "status 503, expected 200 to 399")
		c.ExpectStatus = []int{200, 503}
		works(t, c)
		c.ExpectStatus, c.Path = nil, "/redirect" // seen, not followed
		works(t, c)
		c.ExpectStatus = []int{200}
		fails(t, c, "status 302, expected [200]")
		c.ExpectStatus, c.Path = []int{204}, "/hints"
		works(t, c)
		server.Close()
		fails(t, c, "connection refused")
	}
}

// TestHostileServers checks that a probe reads little and ends in time, whatever a hostile server
// does.
func TestHostileServers(t *testing.T) {
	endless := func(start, more string) func(net.Conn) {
		chunk := bytes.Repeat([]byte(more), 1+4096/len(more))
		return func(c net.Conn) {
			_, err := io.WriteString(c, start)
			for sent := 0; err == nil && sent < 1<<30; sent += len(chunk) {
				_, err = c.Write(chunk)
			}
		}
	}
	drip := func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
		for err == nil {
			time.Sleep(time.Millisecond)
			_, err = c.Write([]byte("x"))
		}
	}
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	for _, c := range []struct {
		name    string
		kind    Type
		handle  func(net.Conn)
		timeout time.Duration
		words   string
	}{
		{"endless headers", HTTP, endless("HTTP/1.1 200 OK\r\n", "X-Junk: junk\r\n"), slow, "longer than 320 KiB"},
		{"endless header line", HTTP, endless("HTTP/1.1 200 OK\r\nX: ", "x"), slow, "longer than 320 KiB"},
		{"endless status line", HTTP, endless("", "H"), slow, "longer than 320 KiB"},
		{"endless informational responses", HTTP, endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"), slow, "longer than 320 KiB"},
		{"endless body", HTTP, endless("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", "x"), slow, "does not contain"},
		{"endless chunks", HTTP, endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), slow, "does not contain"},
		{"one byte at a time", HTTP, drip, 50 * time.Millisecond, "no answer within 50ms"},
		{"silence", HTTP, silent, 50 * time.Millisecond, "no answer within 50ms"},
		{"silence instead of TLS", HTTPS, silent, 50 * time.Millisecond, "no answer within 50ms"},
		{"junk instead of TLS", HTTPS, endless("", "junk"), slow, "TLS"},
		{"hangs up", HTTP, func(net.Conn) {}, slow, "connection"},
		{"endless greeting that is not wanted", TCP, endless("", "x"), slow, "begins with"},
		{"no greeting", TCP, silent, 50 * time.Millisecond, "no answer within 50ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fails(t, Check{Type: c.kind, Target: serve(t, c.handle), Timeout: c.timeout, Expect: "hello", ExpectBody: "hello"}, c.words)
		})
	}
}

// TestLongBodyUnread checks that the length of the body does not matter if the check does not read
// it.
func TestLongBodyUnread(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	}))
	defer server.Close()
	works(t, Check{Type: HTTP, Target: netip.MustParseAddrPort(server.Listener.Addr().String()), Timeout: slow})
}

// TestCancel checks that the end of the context ends a probe at once.
func TestCancel(t *testing.T) {
	silent := serve(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	for _, c := range []Check{
		{Type: HTTP, Target: silent}, {Type: HTTPS, Target: silent}, {Type: TCP, Target: silent, Expect: "x"},
		{Type: UDP, Target: deaf.LocalAddr().(*net.UDPAddr).AddrPort()}, {Type: DNS, Target: deaf.LocalAddr().(*net.UDPAddr).AddrPort()},
	} {
		c.Timeout = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- Probe(ctx, c) }()
		cancel()
		select {
		case err := <-result:
			if err == nil {
				t.Errorf("%s: cancelled and successful", c.Type)
			}
		case <-time.After(slow):
			t.Fatalf("%s: still running", c.Type)
		}
	}
}

func TestUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // answers everything but empty datagrams
		defer close(done)
		b := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 0 {
				_, _ = server.WriteTo(append([]byte("re: "), b[:n]...), from)
			}
		}
	}()
	defer func() {
		server.Close()
		<-done
	}()
	target := server.LocalAddr().(*net.UDPAddr).AddrPort()
	works(t, Check{Type: UDP, Target: target, Timeout: 20 * time.Millisecond}) // silence is success
	works(t, Check{Type: UDP, Target: target, Timeout: slow, Send: "hello"})
	works(t, Check{Type: UDP, Target: target, Timeout: slow, Send: "hello", Expect: "re: hel"})
	fails(t, Check{Type: UDP, Target: target, Timeout: slow, Send: "hello", Expect: "hello"}, "begins with")
	fails(t, Check{Type: UDP, Target: target, Timeout: 20 * time.Millisecond, Expect: "re:"}, "no answer within 20ms")
	fails(t, Check{Type: UDP, Target: closedPort(t, unix.SOCK_DGRAM), Timeout: slow}, "connection refused")
}

func TestDNS(t *testing.T) {
	listener, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{
		".": dns.RcodeRefused, "good.example.": dns.RcodeSuccess, "missing.example.": dns.RcodeNameError, "broken.example.": dns.RcodeServerFailure,
	}
	server := &dns.Server{PacketConn: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		// First what does not answer the query: junk, another ID, another question.
		_, _ = w.Write([]byte("junk"))
		other := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
		other.Id++
		_ = w.WriteMsg(other)
		_ = w.WriteMsg(new(dns.Msg).SetRcode(new(dns.Msg).SetQuestion("other.example.", dns.TypeA), dns.RcodeServerFailure))
		if code, ok := codes[query.Question[0].Name]; ok {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(query, code))
		}
	})}
	done := make(chan error)
	go func() { done <- server.ActivateAndServe() }()
	defer func() {
		listener.Close()
		<-done
	}()
	c := Check{Type: DNS, Target: listener.LocalAddr().(*net.UDPAddr).AddrPort(), Timeout: slow}
	works(t, c)
	c.Query = "good.example"
	works(t, c)
	c.Query = "missing.example"
	fails(t, c, "missing.example. is NXDOMAIN")
	c.Query = "broken.example"
	fails(t, c, "SERVFAIL")
	c.Query, c.Timeout = "silent.example", 50*time.Millisecond
	fails(t, c, "no answer within 50ms")
	c.Target, c.Timeout = closedPort(t, unix.SOCK_DGRAM), slow
	fails(t, c, "connection refused")
}

// TestPing runs in a network namespace that has only a loopback interface, where answers can be
// turned off.
func TestPing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: raw sockets and a network namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here, and with it its namespace
		done <- pingAlone(t)
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func pingAlone(t *testing.T) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	v4 := Check{Type: Ping, Target: netip.MustParseAddrPort("127.0.0.1:0"), Timeout: 200 * time.Millisecond}
	if err := Probe(t.Context(), v4); err == nil {
		return fmt.Errorf("ping over an interface that is down works")
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	v6 := v4
	v6.Target = netip.MustParseAddrPort("[::1]:0")
	for _, c := range []Check{v4, v6} {
		c.Timeout = slow
		if err := Probe(t.Context(), c); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/icmp_echo_ignore_all", []byte("1"), 0); err != nil {
		return err
	}
	if err := Probe(t.Context(), v4); err == nil || !strings.Contains(err.Error(), "ping 127.0.0.1: no answer within 200ms") {
		return fmt.Errorf("ping without answer: %w", err)
	}
	return nil
}

// loopbackUp sets the loopback interface of the thread's namespace up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}
