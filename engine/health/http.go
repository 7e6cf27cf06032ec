package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// probeHTTP sends one GET on a new connection and checks the status, and the body if the check
// requires it. It reads the answer directly from the connection instead of using an http.Client: no
// redirects, no proxy, no keep-alive, no goroutine that could remain, one limit for all that is
// read, and readResponse takes what clients take.
func probeHTTP(ctx context.Context, c Check) error {
	raw, err := dial(ctx, "tcp", c)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.left = maxHead + maxRead
	conn := net.Conn(raw)
	if c.Type == HTTPS {
		if conn, err = handshake(ctx, raw, c); err != nil {
			return err
		}
	}
	request, err := newRequest(c)
	if err != nil {
		return err
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	answer, err := readResponse(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if !c.goodStatus(answer.status) {
		return fmt.Errorf("status %d, expected %s", answer.status, c.statuses())
	}
	if c.ExpectBody == "" {
		return nil
	}
	if found, err := answer.contains(c.ExpectBody); found || err != nil {
		return err
	}
	return fmt.Errorf("the answer does not contain %q", clip([]byte(c.ExpectBody)))
}

// handshake starts TLS. It verifies no certificate and refuses no cipher suite and no version that
// Go has: the check is whether the server serves, at an address that no certificate names, and it
// sends no secret. Clients verify for themselves. The godebug lines of go.mod belong to this.
func handshake(ctx context.Context, raw net.Conn, c Check) (net.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		ServerName:         c.Host,
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
		CipherSuites:       suites,
		NextProtos:         []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w%s", err, hint(err))
	}
	return conn, nil
}

// hint returns what to do if both sides talk, but Go's TLS and the server's have nothing in common.
func hint(err error) string {
	var op *net.OpError
	refused := errors.As(err, &op) && op.Op == "remote error" // an alert of the server
	if refused || strings.Contains(err.Error(), "failed to parse certificate") {
		return `; a check of type "tcp" does not use TLS`
	}
	return ""
}

// suites are all cipher suites before TLS 1.3, which allows no choice. Go's own choice lacks those
// without forward secrecy and those with old ciphers.
var suites = func() (all []uint16) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		all = append(all, s.ID)
	}
	return all
}()

func newRequest(c Check) (*http.Request, error) {
	path := c.Path
	if path == "" {
		path = "/"
	}
	r, err := http.NewRequest(http.MethodGet, "http://"+c.Target.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", path, err)
	}
	if c.Host != "" {
		r.Host = c.Host
	}
	r.Header.Set("User-Agent", "sluice-health")
	r.Close = true
	return r, nil
}

func (c Check) goodStatus(status int) bool {
	if len(c.ExpectStatus) == 0 {
		return status >= 200 && status <= 399
	}
	return slices.Contains(c.ExpectStatus, status)
}

func (c Check) statuses() string {
	if len(c.ExpectStatus) == 0 {
		return "200 to 399"
	}
	return fmt.Sprint(c.ExpectStatus)
}
