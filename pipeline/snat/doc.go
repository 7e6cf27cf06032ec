// Package snat holds the SNAT pools of mode fullnat: the local addresses and ports that connections
// to backends are sent from.
//
// A Source is a local address with the ports that may be used. A Pool is one worker's part of a
// source's ports towards one backend address and port: connections to the same backend from the
// same source differ in their local port only. Which worker has which port is settled when the pool
// is made (Ref) and never changes, since connections of two workers could collide otherwise.
//
// A Pool also remembers which connection has a port, so that a reply finds its connection without a
// search. Alloc, Release, Bind and Lookup take a bounded number of steps and do not allocate.
package snat
