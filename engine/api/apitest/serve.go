// Package apitest serves a Control in tests, as the daemon does on its control socket.
package apitest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice/engine/api"
)

// waitLimit is how long running requests may delay the end of a test.
const waitLimit = 20 * time.Second

// Listen listens on a TCP port of a loopback address that other processes do not use: when the
// listener is closed, the test can use the port, and no other test has it meanwhile.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	pid := os.Getpid()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>16, pid>>8&255, pid&255))
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// Serve serves control on a new socket until the test ends. The test fails if the shutdown does.
func Serve(t testing.TB, control api.Control) (server *api.Server, socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "s.sock")
	server, _ = At(t, socket, control)
	return server, socket
}

// At serves control on a socket until stop is called or the test ends.
func At(t testing.TB, socket string, control api.Control) (server *api.Server, stop func()) {
	t.Helper()
	listener, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server = api.NewServer(control, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	stop = sync.OnceFunc(func() {
		deadline, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		if err := errors.Join(server.Shutdown(deadline), <-served); err != nil {
			t.Error("shutdown:", err)
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Error("the socket still exists after shutdown:", err)
		}
	})
	t.Cleanup(stop)
	return server, stop
}
