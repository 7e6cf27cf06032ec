package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// maxNetworkConns bounds the clients on the network that are served at once; more wait in the
// listener's backlog.
const maxNetworkConns = 256

// networkRetry is the pause before an address that could not be listened on is tried again.
const networkRetry = 5 * time.Second

// presence is how the network reaches us, for Status.
type presence struct {
	mu      sync.Mutex
	address string // "": not at all, as configured
	err     error  // why nothing answers there
}

func (p *presence) note(address string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.address, p.err = address, err
}

// tell adds to a status what only the server knows.
func (p *presence) tell(status *Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	status.HTTP = p.address
	if p.err != nil {
		status.HTTPErr = p.err.Error()
		status.Attention = append(status.Attention, "nothing answers on [api] http: no metrics, no page: "+status.HTTPErr)
	}
}

// OpenNetwork serves address, "host:port", until Shutdown. Packets come first: where the address
// cannot be had - the port is taken, or the address is not here yet - it logs an error and goes on
// trying in the background.
func (s *Server) OpenNetwork(address string, access Access) {
	s.network.Handler = access.guard(s.mux)
	listen := func() (net.Listener, error) {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			err = fmt.Errorf("%w; tried again every %s", err, networkRetry)
		}
		s.presence.note(address, err)
		return listener, err
	}
	listener, err := listen()
	if err != nil {
		s.logger.Error("nothing answers on [api] http: no metrics, no page; free the port or change the address",
			"event", "http_failed", "address", address, "error", err)
	}
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		for listener == nil {
			select {
			case <-s.closing:
				return
			case <-time.After(networkRetry):
			}
			if listener, err = listen(); err != nil {
				continue
			}
			s.logger.Info("[api] http answers now", "event", "http_open", "address", address)
		}
		if err := s.network.Serve(netutil.LimitListener(listener, maxNetworkConns)); !errors.Is(err, http.ErrServerClosed) {
			s.presence.note(address, fmt.Errorf("it stopped: %w", err))
			s.logger.Error("[api] http stopped answering", "event", "http_failed", "address", address, "error", err)
		}
	}()
}

// awaitNetwork waits for what OpenNetwork started.
func (s *Server) awaitNetwork(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.served.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
