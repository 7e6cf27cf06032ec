package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxNetworkConns limits the connections on the network.
const maxNetworkConns = 256

// connections is a listener that has at most so many connections open. When one more arrives, the
// connection that has waited longest gives way: clients that are idle or slow, on purpose or not,
// must not keep a scraper out, even if they come from its own address.
//
// Those that wait for their client's request give way first, whether it has sent a part of it or
// nothing, and then those that do not read their answer. A request that is being worked on never
// gives way; if all are, the next connection waits in the listener's backlog.
type connections struct {
	net.Listener
	most int

	mu     sync.Mutex
	room   sync.Cond // signals that a connection may give way, or has closed; of mu
	open   map[*trackedConn]struct{}
	closed bool
}

// trackedConn is a connection with what it waits for.
type trackedConn struct {
	net.Conn
	all *connections

	state connState // guarded by all.mu, likewise since
	since time.Time
}

// connState is what a connection waits for, in the order in which they give way.
type connState uint8

const (
	awaitsRequest connState = iota // since its start, or its last answer
	awaitsReader                   // a write waits for the client to read
	serving                        // a handler is at work
)

func limitConnections(l net.Listener, most int) *connections {
	c := &connections{Listener: l, most: most, open: make(map[*trackedConn]struct{}, most)}
	c.room.L = &c.mu
	return c
}

// Accept implements net.Listener.
func (l *connections) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: raw, all: l}
	if !l.admit(c) {
		raw.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// admit makes room for a connection. It reports false when the listener is closed.
func (l *connections) admit(c *trackedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open) >= l.most && !l.closed {
		if longest := l.longest(); longest != nil {
			delete(l.open, longest)
			longest.Conn.Close() // net/http sees it and ends the goroutines
			continue
		}
		l.room.Wait()
	}
	if l.closed {
		return false
	}
	c.since = time.Now()
	l.open[c] = struct{}{}
	return true
}

// longest returns the connection that gives way next, or nil. The caller holds mu.
func (l *connections) longest() (longest *trackedConn) {
	for c := range l.open {
		if c.state != serving && (longest == nil || c.state < longest.state || c.state == longest.state && c.since.Before(longest.since)) {
			longest = c
		}
	}
	return longest
}

// Close implements net.Listener.
func (l *connections) Close() error {
	l.mu.Lock()
	l.closed = true
	l.room.Broadcast()
	l.mu.Unlock()
	return l.Listener.Close()
}

// become sets what a connection waits for, and returns what it waited for before.
func (c *trackedConn) become(state connState) (before connState) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	before = c.state
	c.state, c.since = state, time.Now()
	c.all.room.Signal()
	return before
}

// Write implements net.Conn. After its handler has ended a connection stays one that awaits a
// request.
func (c *trackedConn) Write(data []byte) (int, error) {
	if c.become(awaitsReader) == serving {
		defer c.become(serving)
	} else {
		defer c.become(awaitsRequest)
	}
	return c.Conn.Write(data)
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.room.Signal()
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// connKey is the key of a request's *trackedConn in its context.
type connKey struct{}

// withConn is a ConnContext of http.Server.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// tracked marks the connections of requests that next works on.
func tracked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*trackedConn); ok {
			c.become(serving)
			defer c.become(awaitsRequest)
		}
		next.ServeHTTP(w, r)
	})
}
