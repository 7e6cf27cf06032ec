// Package flooding measures what a flood does to the connections of real clients: SYNs or datagrams
// from random addresses, or real connections that open and close fast, at one service, beside
// connections that last and new connections to another.
//
//	client ─── router ─── eth0 balancer eth1 ─── switch ─── b1, b2, b3
//
// The testbed is that of the end-to-end tests. The flood enters at the router's end of the cable to
// the balancer, and is dropped where it leaves the balancer's other port, before any backend, so
// that its only cost is the generator's and the balancer's. All else is real: the daemon in a
// process of its own, and the kernel's TCP at both ends of each connection. The daemon's threads go
// before all others, with which they share the CPUs here.
//
// Each case is measured on a fresh daemon, first without the flood, then with it, then until
// nothing is left of it.
package flooding
