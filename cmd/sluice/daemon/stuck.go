package daemon

import (
	"os"
	"strings"
)

// exitStuck is the exit status of a process that a stuck worker has ended.
const exitStuck = 3

// endStuck ends the process because a worker hangs. Nothing is cleaned up: the worker may still use
// it. What a holder has stays there for the next process; without one the kernel detaches the XDP
// programs.
func (r *runner) endStuck(err error) {
	r.logger.Error("the process ends, because a worker hangs", "event", "stuck_end", "error", err, "exit_status", exitStuck, "restarted_by", restarter())
	r.exit(exitStuck)
}

// restarter names what starts the daemon again when it fails.
func restarter() string {
	switch socket := os.Getenv("NOTIFY_SOCKET"); {
	case socket == "":
		return "nothing: run it under systemd or sluice keep"
	case strings.HasPrefix(socket, "@sluice-keep"):
		return "sluice keep"
	}
	return "systemd, if the unit says so (Restart=on-failure)"
}
