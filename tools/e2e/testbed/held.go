package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/tools/netlab/backend"
)

// heldPause is the time between two requests on a held connection.
const heldPause = 5 * time.Millisecond

// Held is one TCP connection with one request after the other until it breaks or is closed.
type Held struct {
	Backend string // the backend it is connected to
	Local   string // the client's end

	answered atomic.Int64
	stop     context.CancelFunc
	ended    chan struct{} // closed when err is set
	err      error
}

// heldTimeout bounds one request on a connection that is held. It may begin while no daemon runs:
// TCP then sends a segment again after as long as it has waited already.
const heldTimeout = 25 * time.Second

// Hold opens a connection and returns after its first request.
func (b *Bed) Hold(ctx context.Context, url string) (*Held, error) {
	h := &Held{ended: make(chan struct{})}
	// An HTTP client dials again when its connection breaks; this one cannot dial.
	var dialled sync.Once
	dial := func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		err = errors.New("the connection broke")
		dialled.Do(func() { c, err = b.Client.Dial(ctx, network, addr) })
		if err == nil {
			h.Local = c.LocalAddr().String()
		}
		return c, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, MaxConnsPerHost: 1}}
	first, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	a, err := backend.Get(first, client, url)
	if err != nil {
		return nil, err
	}
	h.Backend = a.Name
	ctx, h.stop = context.WithCancel(ctx)
	go h.run(ctx, client, url)
	return h, nil
}

func (h *Held) run(ctx context.Context, client *http.Client, url string) {
	defer close(h.ended)
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		each, cancel := context.WithTimeout(context.WithoutCancel(ctx), heldTimeout)
		_, err := backend.Get(each, client, url)
		cancel()
		if err != nil {
			h.err = err
			return
		}
		h.answered.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(heldPause):
		}
	}
}

// Answered returns the number of requests so far.
func (h *Held) Answered() int64 { return h.answered.Load() }

// Ended returns a channel that is closed when the connection broke or was closed.
func (h *Held) Ended() <-chan struct{} { return h.ended }

// Moves waits until the connection has carried some more requests. It returns an error if the
// connection breaks before.
func (h *Held) Moves(ctx context.Context, requests int64) error {
	for goal := h.Answered() + requests; h.Answered() < goal; {
		select {
		case <-h.ended:
			return fmt.Errorf("the connection to %s broke: %w", h.Backend, h.err)
		case <-ctx.Done():
			return fmt.Errorf("the connection to %s does not move: %w", h.Backend, ctx.Err())
		case <-time.After(heldPause):
		}
	}
	return nil
}

// Close ends the requests and closes the connection. The error is the reason if it broke before.
func (h *Held) Close() error {
	h.stop()
	<-h.ended
	return h.err
}
