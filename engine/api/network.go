package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// networkRetry is the pause before Sluice tries again to listen on the address. Only tests change
// it.
var networkRetry = 5 * time.Second

// presence is the state of the network address, for Status.
type presence struct {
	mu      sync.Mutex
	address string // "": turned off by configuration
	err     error  // why the address is not served
}

func (p *presence) set(address string, err error) {
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
		status.Attention = append(status.Attention, "[api] http is not served: no metrics, no page: "+status.HTTPErr)
	}
}

// OpenNetwork serves address, "host:port", until Shutdown. Packets come first: if the address is
// unavailable (the port is in use, or the address is not on this host yet) it logs an error and
// tries again in the background.
func (s *Server) OpenNetwork(address string, access Access) {
	s.network.Handler, s.network.ConnContext = tracked(access.handler(s.mux)), withConn
	listen := func() (net.Listener, error) {
		listener, err := s.listenOn(address)
		if err != nil {
			err = fmt.Errorf("%w; trying again every %s", err, networkRetry)
		}
		s.presence.set(address, err)
		return listener, err
	}
	listener, err := listen()
	if err != nil {
		s.logger.Error("[api] http is not served: no metrics, no page; free the port or change the address",
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
			s.logger.Info("[api] http is served", "event", "http_open", "address", address)
		}
		s.serving(networkListener, listener)
		if err := s.network.Serve(limitConnections(listener, maxNetworkConns)); !errors.Is(err, http.ErrServerClosed) && !s.left.Load() {
			s.presence.set(address, fmt.Errorf("it stopped: %w", err))
			s.logger.Error("[api] http is no longer served", "event", "http_failed", "address", address, "error", err)
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
