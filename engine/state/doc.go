// Package state stores what must survive a restart of the daemon, in its state directory: the last
// configurations that ran (generations), and files of other packages, such as the overrides. It
// also replaces the configuration file itself.
//
// Every file is replaced atomically. A directory that other users can write to is not used, and
// files that can't be understood are set aside: neither ever stops a start.
package state
