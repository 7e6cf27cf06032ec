package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// clientTimeout limits one request, including the reading of its answer, to a daemon that answers
// others meanwhile.
const clientTimeout = 2 * time.Minute

// Client is the Control of a daemon on the other end of a socket. Any goroutine may use it.
type Client struct {
	// OnUnresponsive, if it is set before the first request, is called with the Unresponsive beside
	// an answer. The request then returns no error.
	OnUnresponsive func(*Unresponsive)
	// Timeout is how long a request waits for a daemon that answers nothing at all. It must not be
	// changed during a request.
	Timeout time.Duration

	socket string
	pid    atomic.Int32 // of the daemon; 0: unknown
	http   http.Client
}

var _ Control = (*Client)(nil)

// NewClient returns a client of the daemon on the socket. It connects for each request, not before.
func NewClient(socket string) *Client {
	c := &Client{Timeout: 3 * time.Second, socket: socket}
	c.http = http.Client{Timeout: clientTimeout, Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true}}
	return c
}

// PID returns the process of the daemon that answered, 0 if it is not known.
func (c *Client) PID() int { return int(c.pid.Load()) }

// List implements Control.
func (c *Client) List(ctx context.Context) (services []Service, err error) {
	return services, c.do(ctx, http.MethodGet, pathServices, nil, &services)
}

// Backend implements Control. Service and backend may be any form that FindService and FindBackend
// accept.
func (c *Client) Backend(ctx context.Context, service, backend string) (b Backend, err error) {
	values := url.Values{"service": {service}, "backend": {backend}}
	return b, c.do(ctx, http.MethodGet, pathBackend+"?"+values.Encode(), nil, &b)
}

// Conns implements Control. Service may be any form that FindService accepts.
func (c *Client) Conns(ctx context.Context, q ConnQuery) (conns []Conn, err error) {
	values := url.Values{}
	for name, value := range map[string]string{"service": q.Service, "client": q.Client, "backend": q.Backend, "state": q.State} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if q.Limit != 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	path := pathConns
	if len(values) > 0 {
		path += "?" + values.Encode()
	}
	return conns, c.do(ctx, http.MethodGet, path, nil, &conns)
}

// Stats implements Control.
func (c *Client) Stats(ctx context.Context) (stats Stats, err error) {
	return stats, c.do(ctx, http.MethodGet, pathStats, nil, &stats)
}

// SetWeight implements Control. Service and backend may be any form that FindService and
// FindBackend accept.
func (c *Client) SetWeight(ctx context.Context, service, backend string, weight int) (b Backend, err error) {
	return b, c.do(ctx, http.MethodPost, pathWeight, weightBody{service, backend, weight}, &b)
}

// Reload implements Control.
func (c *Client) Reload(ctx context.Context, o ReloadOptions) (result ReloadResult, err error) {
	path := pathReload
	if o.Force {
		path += "?force=true"
	}
	return result, c.do(ctx, http.MethodPost, path, nil, &result)
}

// do sends one request and decodes the answer or the error.
func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	ctx, done := c.impatient(ctx)
	defer done()
	request, err := http.NewRequestWithContext(ctx, method, "http://sluice"+path, reader)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return failure(response)
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		if ctx.Err() != nil {
			return c.explain(ctx, err)
		}
		return fmt.Errorf("the program that listens on %s does not answer like sluice: %w", c.socket, err)
	}
	return c.incomplete(response.Header.Get(unresponsiveHeader))
}

// incomplete returns the Unresponsive in the header of an answer, or passes it on.
func (c *Client) incomplete(header string) error {
	if header == "" {
		return nil
	}
	u := new(Unresponsive)
	if err := json.Unmarshal([]byte(header), u); err != nil {
		return fmt.Errorf("the program that listens on %s does not answer like sluice: header %q: %w", c.socket, header, err)
	}
	if c.OnUnresponsive == nil {
		return u
	}
	c.OnUnresponsive(u)
	return nil
}

// explain turns a connection failure into an error with advice. ctx is that of the request.
func (c *Client) explain(ctx context.Context, err error) error {
	switch cause := (*NotAnswering)(nil); {
	case errors.As(context.Cause(ctx), &cause):
		return cause
	case errors.Is(err, syscall.EAGAIN): // the socket's backlog is full
		return &NotAnswering{Socket: c.socket}
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK):
		return &NoDaemon{c.socket}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("socket %s belongs to another user: permission denied (try sudo)", c.socket)
	}
	var wrapped *url.Error // its text would show the made-up host name
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return fmt.Errorf("socket %s: %w", c.socket, err)
}

// failure returns the error in an answer.
func failure(response *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("the daemon answered %s, but the answer cannot be read: %w", response.Status, err)
	}
	var body failureBody
	if json.Unmarshal(data, &body) != nil || body.Text == "" {
		return fmt.Errorf("the daemon answered %s: %s", response.Status, bytes.TrimSpace(data))
	}
	switch {
	case body.NoSuchService != nil:
		return body.NoSuchService
	case body.NoSuchBackend != nil:
		return body.NoSuchBackend
	case body.Ambiguous != nil:
		return body.Ambiguous
	}
	return errors.New(body.Text)
}
