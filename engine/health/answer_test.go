package health_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	. "sluice/engine/health"
)

// answering answers each connection and each datagram with the same bytes, and closes.
type answering struct {
	tcp, udp netip.AddrPort
	answer   atomic.Pointer[[]byte]
}

func newAnswering(t testing.TB) *answering {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	a := &answering{tcp: l.Addr().(*net.TCPAddr).AddrPort(), udp: u.LocalAddr().(*net.UDPAddr).AddrPort()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write(*a.answer.Load()) // the probe may have gone
			c.Close()
		}
	}()
	go func() {
		query := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(query)
			if err != nil {
				return
			}
			reply := append([]byte(nil), *a.answer.Load()...)
			copy(reply[:min(2, len(reply))], query[:min(2, n)]) // the ID of a DNS query
			_, _ = u.WriteTo(reply, from)                       // too long: no answer
		}
	}()
	return a
}

// TestErrorsAreShort checks that what a server sends does not become a text of any length: it is in
// every log line and in the status.
func TestErrorsAreShort(t *testing.T) {
	a := newAnswering(t)
	long := []byte(strings.Repeat("x", 60<<10))
	a.answer.Store(&long)
	for _, c := range []Check{
		{Type: HTTP, Target: a.tcp, Timeout: slow}, {Type: HTTPS, Target: a.tcp, Timeout: slow}, {Type: TCP, Target: a.tcp, Timeout: slow, Expect: "220"},
	} {
		if err := Probe(t.Context(), c); err == nil || len(err.Error()) > 1000 {
			t.Errorf("%s: %.100v", c.Type, err)
		}
	}
}

// FuzzAnswer checks that every answer of a server ends a probe in its time, in success or in an
// error of bounded length.
func FuzzAnswer(f *testing.F) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
		"220 mail\r\n", "\x16\x03\x01\x02\x00\x01", "",
	} {
		f.Add([]byte(answer), uint8(0))
	}
	reply := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion(".", dns.TypeNS))
	packed, err := reply.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, uint8(4))
	f.Add(append(packed[:12:12], 0xc0, 12, 0, 2, 0, 1), uint8(4)) // a name that points to itself
	a := newAnswering(f)
	f.Fuzz(func(t *testing.T, answer []byte, kind uint8) {
		a.answer.Store(&answer)
		c := []Check{
			{Type: HTTP, Target: a.tcp, ExpectBody: "ok"}, {Type: HTTPS, Target: a.tcp}, {Type: TCP, Target: a.tcp, Expect: "220"},
			{Type: UDP, Target: a.udp, Expect: "ok"}, {Type: DNS, Target: a.udp},
		}[kind%5]
		c.Timeout = 5 * time.Second
		if c.Type == DNS { // it waits for another answer
			c.Timeout = 20 * time.Millisecond
		}
		if err := Probe(t.Context(), c); err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes: %.100v", len(err.Error()), err)
		}
	})
}
