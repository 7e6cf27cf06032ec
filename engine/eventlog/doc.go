// Package eventlog is the daemon's log: slog, in one of several formats, with one line per change
// of state. Such a line has an `event` attribute, an ID that does not change when the message text
// does. Events lists the IDs, and README.md is generated from it. Events are also counted and
// passed to the follower (Log.Follow). Repeated lines are limited.
//
// Any goroutine may log; none waits for the output, which a goroutine of the Log writes (queue.go).
// Timers write the counts of suppressed lines on goroutines of their own.
// The package imports engine/api for the type Event. Sources: systemd.journal-fields(7) and
// systemd.exec(5).
package eventlog
