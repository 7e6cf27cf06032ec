package keeper

import (
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// message handles a message of the child's. Those of other processes are ignored.
func (k *keeper) message(c *child, m message) {
	if c = k.main(c); m.pid != c.process.Pid {
		m.closeFiles()
		return
	}
	switch name := m.value("FDNAME"); {
	case m.value("FDSTORE") == "1":
		if err := k.store.add(name, m.fds); err != nil {
			k.Log.Error("a descriptor of the daemon is not held", "error", err)
		}
		return
	case m.value("FDSTOREREMOVE") == "1":
		k.store.remove(name)
	}
	m.closeFiles()
	if pid, err := strconv.Atoi(m.value("MAINPID")); err == nil && pid != c.process.Pid {
		k.succeed(c, pid)
		return
	}
	k.life(c, m)
	k.passOn(m)
}

// life notes signs of life. Once the child stops, its end is awaited instead.
func (k *keeper) life(c *child, m message) {
	if us, err := strconv.ParseInt(m.value("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		c.allowed = time.Duration(us) * time.Microsecond
	}
	ready := m.value("READY") == "1"
	if ready && c.ready.IsZero() {
		c.ready, k.wasReady = time.Now(), true
	}
	switch {
	case k.stopping || c.aborted || c.ready.IsZero():
	case m.value("STOPPING") == "1":
		c.life.Reset(stopTime)
	case ready, m.value("WATCHDOG") == "1":
		c.life.Reset(c.allowed)
	}
}

// notPassedOn are the lines that are between the keeper and its child.
var notPassedOn = []string{"FD", "WATCHDOG", "MAINPID=", "BARRIER="}

// passOn passes the message on to the keeper's own service manager, if it has one, without the
// lines that are the keeper's.
func (k *keeper) passOn(m message) {
	var lines []string
	for _, line := range m.lines {
		if !hasPrefix(line, notPassedOn) {
			lines = append(lines, line)
		}
	}
	if m.value("WATCHDOG") == "1" { // the keeper lives as long as its child does
		lines = append(lines, daemon.SdNotifyWatchdog)
	}
	if len(lines) > 0 {
		// a manager that is gone is no reason to end
		_, _ = daemon.SdNotify(false, strings.Join(lines, "\n"))
	}
}

func hasPrefix(line string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

func (m *message) closeFiles() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
}
