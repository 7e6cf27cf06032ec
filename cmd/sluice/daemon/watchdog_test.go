package daemon

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/engine/api"
)

// serviceManager is systemd in a test: it receives the messages of a daemon.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
}

// newServiceManager makes this process one that systemd has started, with a watchdog unless period
// is 0.
func newServiceManager(t *testing.T, period time.Duration) *serviceManager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	if period > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.Itoa(int(period/time.Microsecond)))
	}
	return &serviceManager{t, conn}
}

// hears waits for a message that begins so; others before it are passed over if they may be there.
func (s *serviceManager) hears(what string, mayPass ...string) string {
	s.t.Helper()
	buf := make([]byte, 1024)
	for {
		s.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := s.conn.Read(buf)
		if err != nil {
			s.t.Fatalf("systemd waits for %s: %v", what, err)
		}
		said := string(buf[:n])
		if strings.HasPrefix(said, what) {
			return said
		}
		for _, other := range mayPass {
			if strings.HasPrefix(said, other) {
				said = ""
			}
		}
		if said != "" {
			s.t.Fatalf("systemd waits for %s and hears %q", what, said)
		}
	}
}

// TestRunNotifiesSystemd of ready, of every reload and its end, and of the stop.
func TestRunNotifiesSystemd(t *testing.T) {
	manager := newServiceManager(t, 0)
	l := newLife(t)
	l.begin()
	if said := manager.hears("READY=1"); !strings.Contains(said, "STATUS=2 services") {
		t.Errorf("status: %q", said)
	}
	l.signals <- syscall.SIGHUP
	if said := manager.hears("RELOADING=1\nMONOTONIC_USEC="); strings.HasSuffix(said, "=") {
		t.Errorf("no time: %q", said)
	}
	manager.hears("READY=1")
	if _, err := l.client().Reload(t.Context(), api.ReloadOptions{}); err != nil {
		t.Error(err)
	}
	manager.hears("RELOADING=1")
	manager.hears("READY=1")
	l.signals <- syscall.SIGTERM
	manager.hears("STOPPING=1")
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

// TestWatchdog checks that systemd gets pings until the engine has failed, with a period of at most
// stuck_after.
func TestWatchdog(t *testing.T) {
	manager := newServiceManager(t, 30*time.Millisecond)
	l := newLife(t)
	l.begin()
	manager.hears("READY=1")
	for range 3 {
		manager.hears("WATCHDOG=1")
	}
	l.signals <- syscall.SIGTERM
	manager.hears("STOPPING=1", "WATCHDOG=1")
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

// fill sends messages until the service manager's socket takes no more.
func (s *serviceManager) fill() {
	s.t.Helper()
	conn, err := net.DialUnix("unixgram", nil, s.conn.LocalAddr().(*net.UnixAddr))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	for err == nil {
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Write([]byte("FILLER=1"))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Fatal(err)
	}
}

// TestSystemdDoesNotRead: the daemon starts, reloads and stops although systemd reads nothing of
// what it is told. When it reads again it gets all, in order.
func TestSystemdDoesNotRead(t *testing.T) {
	manager := newServiceManager(t, time.Hour)
	manager.fill()
	l := newLife(t)
	l.begin()
	l.untilLogged("ready")
	if _, err := l.client().Reload(t.Context(), api.ReloadOptions{}); err != nil {
		t.Error(err)
	}
	manager.hears("READY=1", "FILLER=1")
	manager.hears("RELOADING=1", "WATCHDOG=1")
	manager.hears("READY=1", "WATCHDOG=1")

	manager.fill()
	l.signals <- syscall.SIGTERM
	if err := l.end(); err != nil {
		t.Error(err)
	}
	l.untilLogged("systemd does not read")
}
