// Package keepalived reads keepalived.conf and drafts the services of its LVS part for Sluice.
//
// # Steps
//
//	lines: comments, conditions (@id), $definitions, include    (source.go, expand.go)
//	  -> words: quotes and escapes, braces apart    (words.go)
//	  -> a tree of directives, each with its line   (tree.go)
//	  -> services                   (server.go, backend.go, checker.go, group.go)
//
// The format is that of keepalived.conf(5), version 2.3. Every directive of the file becomes a part
// of a service or a note, so that nothing is lost silently. VRRP remains with keepalived, which can
// continue to run for it.
//
// # Health checks
//
// keepalived has a check per real server, Sluice one per service. The first server with a check
// decides, and different checks of others are noted. A check of Sluice's goes before a program.
// connect_timeout becomes timeout, retry+1 becomes fall, and rise is 1: in keepalived a server is
// up after one successful check. interval follows from delay_loop, retry and delay_before_retry: a
// server that refuses connections is down as soon as in keepalived, or a note says when; it also
// says when one that does not answer is down.
//
// Defaults are keepalived's: a virtual server without a protocol is UDP, and one of any port has
// persistence. lb_kind FNAT and local addresses are those of DPVS's keepalived.
//
// The package starts no goroutine; a call of Parse uses one. It imports conf, conf/draft and
// pipeline/service. Sources: keepalived.conf(5), keepalived's lib/parser.c, DPVS's
// tutorial.
package keepalived
