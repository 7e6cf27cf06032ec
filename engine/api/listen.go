package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultSocket is the control socket unless configured otherwise.
const DefaultSocket = "/run/sluice/sluice.sock"

// Listen creates the control socket with mode 0600, and its directory with 0755 if it is missing.
// It replaces the socket of a dead process and returns an error for that of a live one. Closing the
// listener removes the socket.
//
// Requests wait in the socket's backlog until Serve is called. So a daemon listens before it
// touches the network, and a second daemon fails before it does any harm.
func Listen(path string) (net.Listener, error) {
	if len(path) >= len(syscall.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("socket path %s is %d bytes long; allowed: at most %d",
			path, len(path), len(syscall.RawSockaddrUnix{}.Path)-1)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("directory of the control socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode is set before bind(2), which gives it to the file: at no time may others connect.
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var chmod error
		err := raw.Control(func(fd uintptr) { chmod = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	listener, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return listener, nil
}

// removeStale removes the socket at path if no process listens on it. Otherwise it returns an error
// with the reason.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is not a socket: remove it, or choose another [api] socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another sluice answers on %s: stop it, or choose another [api] socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s is in use: %w", path, err)
	}
	return os.Remove(path)
}
