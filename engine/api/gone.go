package api

import (
	"context"
	"net"
	"net/http"
	"syscall"

	"golang.org/x/sys/unix"
)

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

// withConnection makes the connection of requests known to clientGone.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// clientGone reports whether the client has closed its connection. net/http ends the context of a
// request some time after that. A daemon that was suspended, or that is busy, may find the request
// of a client that has given up long ago: it must not be carried out.
func clientGone(r *http.Request) bool {
	of, ok := r.Context().Value(connectionKey{}).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) { // its error is that of a closed connection
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = n == 0 && err == nil
	})
	return gone
}
