// Package eventlog is the daemon's log: slog, in one of several formats, with one line per change
// of state. Such a line has an `event` attribute, an id that stays the same when words change;
// Events lists them, and README.md is made from it. They go to whoever follows the log (Log.Follow)
// too, and are counted. Lines that repeat are limited.
package eventlog
