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

// DefaultSocket is where daemon and verbs meet when nobody says otherwise.
const DefaultSocket = "/run/sluice/sluice.sock"

// Listen makes the control socket with mode 0600, and its directory with 0755 where it is missing.
// The socket of a dead process is replaced; that of a live one is an error. Closing the listener
// removes it.
//
// Requests wait in the socket's backlog until Serve takes them, so a daemon listens before it
// touches the network: a second one is refused while it has done no harm yet.
func Listen(path string) (net.Listener, error) {
	if len(path) >= len(syscall.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("socket path %s is %d bytes long: at most %d are possible",
			path, len(path), len(syscall.RawSockaddrUnix{}.Path)-1)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("directory of the control socket: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode is set before bind(2), which gives it to the file: there is no moment in which
	// others may connect.
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

// removeStale removes the socket at path if nobody listens on it, and explains what is in the way
// otherwise.
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
