package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Type is a kind of check, named as in the configuration.
type Type string

// The types.
const (
	None  Type = "none"  // always up
	TCP   Type = "tcp"   // accepts a connection
	HTTP  Type = "http"  // answers a GET with a good status
	HTTPS Type = "https" // the same over TLS
	UDP   Type = "udp"   // its port is not closed
	DNS   Type = "dns"   // answers a query
	Ping  Type = "ping"  // answers an echo request
)

// Types lists the types, for error messages and help.
var Types = []Type{TCP, HTTP, HTTPS, UDP, DNS, Ping, None}

// Check describes how a backend is checked. Two checks with equal fields are the same check.
type Check struct {
	Type     Type
	Target   netip.AddrPort // ping and none use no port
	Interval time.Duration  // start of a probe to the start of the next, or a tenth less
	Timeout  time.Duration  // a probe that takes longer has failed
	Rise     int            // probes in a row that must succeed before a backend that is down is up
	Fall     int            // probes in a row that must fail before a backend that is up is down
	// FlapHold is how long a backend that went down too often must succeed before it is up; 0: as
	// others.
	FlapHold time.Duration

	Path         string // http, https: request path; "": /
	Host         string // http, https: Host header and TLS server name; "": the target's address
	ExpectStatus []int  // http, https: good status codes; none: 200 to 399
	ExpectBody   string // http, https: text in the first 64 KiB of the body; "": any
	Send         string // tcp, udp: bytes to send; "": none (udp: an empty datagram)
	Expect       string // tcp, udp: prefix of the answer; "": any, and none is needed
	Query        string // dns: name to ask for; "": the root

	// Through is the address that sockets connect to in place of the target's, for probes that take
	// the service's path (package truepath). Silence is then the hint that is added to the error of
	// a probe without an answer.
	Through netip.Addr
	By      string // the path in words: "dr to 10.0.0.11"; "": to the target
	Silence string
}

// equal reports whether both are the same check.
func (c Check) equal(d Check) bool { return reflect.DeepEqual(c, d) }

// validate returns an error if the check cannot be run.
func (c Check) validate() error {
	if !slices.Contains(Types, c.Type) {
		names := fmt.Sprintf("%q", Types)
		return fmt.Errorf("type %q must be one of %s", c.Type, strings.Trim(names, "[]"))
	}
	if c.Type == None {
		return nil
	}
	switch {
	case !c.Target.Addr().IsValid(), c.Target.Port() == 0 && c.Type != Ping:
		return fmt.Errorf("%s check has no target: %q", c.Type, c.Target)
	case c.Interval <= 0 || c.Timeout <= 0:
		return fmt.Errorf("%s check of %s: interval %s and timeout %s must be longer than 0", c.Type, c.Target, c.Interval, c.Timeout)
	case c.Rise < 1 || c.Fall < 1:
		return fmt.Errorf("%s check of %s: rise %d and fall %d must be at least 1", c.Type, c.Target, c.Rise, c.Fall)
	}
	return nil
}

// Probe runs one probe of the check. It returns nil if the backend works, else an error with the
// reason. It returns at the latest when ctx or the check's timeout ends.
func Probe(ctx context.Context, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var err error
	switch c.Type {
	case None:
	case TCP:
		err = probeTCP(ctx, c)
	case HTTP, HTTPS:
		err = probeHTTP(ctx, c)
	case UDP:
		err = probeUDP(ctx, c)
	case DNS:
		err = probeDNS(ctx, c)
	case Ping:
		err = probePing(ctx, c)
	default:
		err = c.validate()
	}
	return inWords(err, c)
}

// inWords replaces common errors by texts for the operator.
func inWords(err error, c Check) error {
	var timeout net.Error
	switch {
	case err == nil:
		return nil
	case lacking(err): // before timeouts, because EAGAIN counts as one
		return fmt.Errorf("%s: %w", c.Where(), bounded{err})
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s: no answer within %s%s", c.Where(), c.Timeout, c.Silence)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: connection refused", c.Where())
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s: connection reset", c.Where())
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: connection closed in the middle of an answer", c.Where())
	// Most likely the TTL was exceeded, see truepath.
	case errors.Is(err, syscall.EHOSTUNREACH) && c.Through.IsValid():
		return fmt.Errorf("%s: the backend does not have the service's address", c.Where())
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("%s: no route, or no host has this address", c.Where())
	}
	return fmt.Errorf("%s: %w", c.Where(), bounded{err})
}

// bounded is an error with a text of bounded length: libraries quote what a server sent.
type bounded struct{ error }

// maxErrorText is the length of an error's text in bytes: it is in every log line and status.
const maxErrorText = 300

func (e bounded) Error() string {
	text := e.error.Error()
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}

func (e bounded) Unwrap() error { return e.error }

// Where returns the type, the target and the path, for messages: "tcp 10.0.0.11:80".
func (c Check) Where() string {
	where := string(c.Type) + " " + c.Target.String()
	if c.Type == Ping {
		where = "ping " + c.Target.Addr().String()
	}
	if c.By != "" {
		where += " by " + c.By
	}
	return where
}

// endpoint returns the address that sockets connect to.
func (c Check) endpoint() string {
	if c.Through.IsValid() {
		return netip.AddrPortFrom(c.Through, c.Target.Port()).String()
	}
	return c.Target.String()
}

// maxRead is how many bytes of a backend's answers a probe reads in all.
const maxRead = 64 << 10

// conn is a connection that ends with the probe's context and after maxRead bytes.
type conn struct {
	net.Conn
	left int
	stop func() bool
}

// errTooMuch is the error of reading more than maxRead bytes.
var errTooMuch = fmt.Errorf("the answer is longer than %d KiB", maxRead>>10)

// dial connects to the check's target.
func dial(ctx context.Context, network string, c Check) (*conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, network, c.endpoint())
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			raw.Close()
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	return &conn{raw, maxRead, stop}, nil
}

// Read reads into b; it fails after maxRead bytes.
func (c *conn) Read(b []byte) (int, error) {
	if c.left == 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// Close closes the connection and ignores errors.
func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}

// expectPrefix reads until the answer begins with want, or no longer can.
func expectPrefix(r io.Reader, want string) error {
	got := make([]byte, 0, len(want))
	for len(got) < len(want) {
		n, err := r.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		if !strings.HasPrefix(want, string(got)) {
			return fmt.Errorf("the answer begins with %q, expected %q", clip(got), clip([]byte(want)))
		}
		if err != nil && len(got) < len(want) {
			return err
		}
	}
	return nil
}

// clip returns the first part of an answer, for messages.
func clip(b []byte) []byte { return b[:min(len(b), 40)] }
