// Package testbed is a small testbed around one balancer, for the demonstration and the end-to-end
// tests: real hosts in namespaces of their own, the real daemon in a process of its own, real TCP
// and UDP.
//
//	client ─── router ─── eth0 balancer eth1 ──┐
//	              │                            │
//	              └────────── switch ──────────┴── b1, b2, b3
//
// The router sends everything for a service's address (198.51.100.0/24, 2001:db8:f::/64) to the
// balancer's first port; the backends are behind the second. The balancer holds the services'
// addresses on lo, so that its kernel answers what Sluice passes.
//
// Replies take two ways. Those of NAT backends come from the backend's own address and take its
// default route, which is the balancer. Backends of tun and dr hold the service's address on lo and
// answer from it: a policy rule for that source sends the answer to the router, past the balancer.
// (The kernel of the balancer would drop it, because it has the source address itself.) Tunnels end
// in an XDP program on the backend's port, see package sluice/tools/netlab/decap.
//
// The switch is a bridge inside the router's namespace.
package testbed
