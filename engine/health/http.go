package health

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
)

// probeHTTP sends one GET on a new connection and checks the status, and the body if the check
// requires it. It parses the answer directly from the connection instead of using an http.Client:
// no redirects, no proxy, no keep-alive, no goroutine that could remain, and the connection's limit
// covers headers and body together.
func probeHTTP(ctx context.Context, c Check) error {
	raw, err := dial(ctx, "tcp", c)
	if err != nil {
		return err
	}
	defer raw.Close()
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
	// Closing the body would read it to its end; the connection is closed instead.
	response, err := readResponse(bufio.NewReader(conn), request) //nolint:bodyclose // see above
	if err != nil && raw.left == 0 {
		return errTooMuch // instead of the parser's error about the cut
	}
	if err != nil {
		return err
	}
	if !c.goodStatus(response.StatusCode) {
		return fmt.Errorf("status %d, expected %s", response.StatusCode, c.statuses())
	}
	if c.ExpectBody == "" {
		return nil
	}
	body, err := io.ReadAll(response.Body)
	if bytes.Contains(body, []byte(c.ExpectBody)) {
		return nil
	}
	if err != nil && !errors.Is(err, errTooMuch) {
		return err
	}
	return fmt.Errorf("the answer does not contain %q", clip([]byte(c.ExpectBody)))
}

// handshake starts TLS. It does not verify the certificate: the check is whether the server serves,
// at an address that no certificate names. Clients verify certificates themselves.
func handshake(ctx context.Context, raw net.Conn, c Check) (net.Conn, error) {
	conn := tls.Client(raw, &tls.Config{
		ServerName:         c.Host,
		InsecureSkipVerify: true,
		NextProtos:         []string{"http/1.1"},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

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

// readResponse skips informational responses (1xx, RFC 9110 section 15.2); the connection's limit
// bounds them.
func readResponse(r *bufio.Reader, request *http.Request) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(r, request)
		if err != nil || response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, err
		}
	}
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
