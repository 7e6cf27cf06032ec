package health_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	. "sluice/engine/health"
)

// sending returns a server that answers each connection with the same bytes after the request, and
// then closes it, or holds it until the client closes.
func sending(t *testing.T, answer string, hold bool) netip.AddrPort {
	t.Helper()
	return serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096)) // the request: a small one comes in one piece
		_, _ = io.WriteString(c, answer)  // the probe may have closed
		if hold {
			_, _ = io.Copy(io.Discard, c)
		}
	})
}

// TestUncommonAnswers checks that answers that curl or keepalived accepts are accepted, and that
// the body is right in all of them.
func TestUncommonAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	line := "X-Pad: " + strings.Repeat("x", 61) + "\r\n"
	for name, answer := range map[string]string{
		"header line without a colon":      ok + "this line has none\r\nContent-Length: 5\r\n\r\nhello",
		"header line without a name":       ok + ": value\r\n\r\nhello",
		"continued header line":            ok + "  first\r\nX: a\r\n  second\r\n\r\nhello",
		"bytes that no header has":         ok + "X: \x00\xe9\r\nX Y: z\r\n\r\nhello",
		"Content-Length twice":             ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"two lengths":                      ok + "Content-Length: 2\r\nContent-Length: 5\r\n\r\nhello",
		"list of lengths":                  ok + "Content-Length: 5, 5\r\n\r\nhello",
		"length that is no number":         ok + "Content-Length: five\r\n\r\nhello",
		"identity":                         ok + "Transfer-Encoding: identity\r\n\r\nhello",
		"unknown transfer encoding":        ok + "Transfer-Encoding: frob\r\n\r\nhello",
		"70 kB of headers":                 ok + strings.Repeat(line, 1000) + "Content-Length: 5\r\n\r\nhello",
		"header line of 70 kB":             ok + "X: " + strings.Repeat("x", 70_000) + "\r\nContent-Length: 5\r\n\r\nhello",
		"lines that end with LF":           "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
		"no reason":                        "HTTP/1.1 200\r\n\r\nhello",
		"HTTP/1.0":                         "HTTP/1.0 200 OK\r\n\r\nhello",
		"two spaces":                       "HTTP/1.1  200 OK\r\n\r\nhello",
		"chunked":                          ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n",
		"chunked, twice said":              ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"chunked, with a length":           ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
		"chunks in lines that end with LF": ok + "Transfer-Encoding: chunked\r\n\r\n2\nhe\n3\nllo\n0\n\n",
		"informational responses":          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + ok + "\r\nhello",
		"text across two reads":            ok + "\r\n" + strings.Repeat("x", 8190) + "hello",
	} {
		t.Run(name, func(t *testing.T) {
			target := sending(t, answer, false)
			works(t, Check{Type: HTTP, Target: target, Timeout: slow})
			works(t, Check{Type: HTTP, Target: target, Timeout: slow, ExpectBody: "hello"})
			fails(t, Check{Type: HTTP, Target: target, Timeout: slow, ExpectBody: "hello!"}, `does not contain "hello!"`)
		})
	}
	// As for curl, no header and no body.
	works(t, Check{Type: HTTP, Target: sending(t, ok, false), Timeout: slow})
}

// TestEndOfBody checks that what comes after the body is not searched, and that a body ends
// although the server keeps the connection open.
func TestEndOfBody(t *testing.T) {
	for name, answer := range map[string]string{
		"length":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello",
		"chunked":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\nhello",
		"no content": "HTTP/1.1 204 No Content\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			fails(t, Check{Type: HTTP, Target: sending(t, answer, true), Timeout: slow, ExpectBody: "hello"}, `does not contain "hello"`)
		})
	}
	works(t, Check{Type: HTTP, Target: sending(t, "HTTP/1.1 200 OK\r\n\r\nhello", true), Timeout: slow, ExpectBody: "hello"})
}

// TestBadAnswers checks what is no answer.
func TestBadAnswers(t *testing.T) {
	for _, c := range []struct{ answer, words string }{
		{"SSH-2.0-OpenSSH_9.2\r\n", `is not HTTP: it begins with "SSH-2.0-`},
		{"\r\n", `is not HTTP`},
		{"HTTP/1.1 OK\r\n\r\n", "is not HTTP"},
		{"HTTP/1.1 20 OK\r\n\r\n", "is not HTTP"},
		{"HTTP/1.1 2000 OK\r\n\r\n", "is not HTTP"},
		{"HTTP/1.1 200 O", "closed in the middle"},
		{"HTTP/1.1 100 Continue\r\n\r\n", "closed in the middle"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhell", "closed in the middle"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell", "closed in the middle"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n", "closed in the middle"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfour\r\nhell\r\n", `size "four"`},
	} {
		fails(t, Check{Type: HTTP, Target: sending(t, c.answer, false), Timeout: slow, ExpectBody: "hello"}, c.words)
	}
}

// TestSlowAnswers checks that an answer that does not come in time is none, wherever it stops.
func TestSlowAnswers(t *testing.T) {
	for _, answer := range []string{
		"", "HTT", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX-Head", "HTTP/1.1 200 OK\r\nX: y\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhe", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5",
	} {
		fails(t, Check{Type: HTTP, Target: sending(t, answer, true), Timeout: 100 * time.Millisecond, ExpectBody: "hello"}, "no answer within 100ms")
	}
}

// TestUncommonTLS checks that servers that OpenSSL accepts are accepted.
func TestUncommonTLS(t *testing.T) {
	small, large := certificate(t, 512, false), certificate(t, 2048, false)
	for name, c := range map[string]*tls.Config{
		"RSA key exchange":         {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
		"RSA key exchange and CBC": {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA}},
		"CBC and SHA-256":          {MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256}},
		"TLS 1.0":                  {MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"negative serial number":   {Certificates: []tls.Certificate{certificate(t, 2048, true)}},
		"short key":                {MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{small}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.Certificates == nil {
				c.Certificates = []tls.Certificate{large}
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
			server.TLS = c
			server.StartTLS()
			defer server.Close()
			works(t, Check{Type: HTTPS, Target: netip.MustParseAddrPort(server.Listener.Addr().String()), Timeout: slow, ExpectBody: "hello"})
		})
	}
}

// certificate returns a self-signed certificate. If negative, its serial number is: the signature,
// which no check verifies, is then wrong.
func certificate(t *testing.T, bits int, negative bool) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	serial := []byte{0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a}
	template := &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if negative {
		at := strings.Index(string(der), string(serial))
		der[at] = 0xa5
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
