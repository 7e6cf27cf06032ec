// Package keepalived reads keepalived.conf and drafts the services of its LVS part for Sluice.
//
// # The way of a file
//
//	lines: comments, conditions (@id), $definitions, include    (source.go, expand.go)
//	  -> words: quotes and escapes, braces apart                (words.go)
//	  -> a tree of directives, each with its line               (tree.go)
//	  -> services                                               (server.go, backend.go, checker.go, group.go)
//
// The form of the file is that of keepalived.conf(5), version 2.3. Whatever a directive says that
// Sluice has no key for becomes a note, so that nothing is lost in silence: every directive of the
// file ends up in a service or in a note. What belongs to VRRP stays with keepalived, which can go
// on running for that.
//
// # Health checks
//
// keepalived checks each real server in its own way, Sluice has one check per service. The first
// server that has a check decides, and the others' are noted where they differ. delay_loop becomes
// interval, connect_timeout timeout, retry+1 fall, and rise is 1: keepalived takes a server back
// after one good check.
package keepalived
