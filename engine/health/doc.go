// Package health asks backends whether they work.
//
// A Prober runs each check once, however many services have it, on a goroutine of its own: probe,
// wait, probe. What a probe is, is said in one file per type (tcp.go, http.go, udp.go, dns.go,
// ping.go); how often probes must succeed or fail in a row before a backend changes sides, in
// state.go; which of a service's backends that are down leave the choice, in protect.go. README.md
// tells operators.
//
// A backend starts up: a restart of the balancer, or a new backend in the file, must not turn a
// working service into an outage for the time of Rise checks, and the first checks follow at once.
// A backend that doesn't work is found out after Fall checks, as at any other time. (keepalived
// does the same unless told `alpha`.)
//
// Probes go through the kernel's sockets. In nat and fullnat they go to the backend's own address,
// as forwarded packets do. In tun and dr those go to the service's address, inside a tunnel or with
// the backend's MAC address, and so do probes: a Check says by Through what its sockets connect to
// instead, and package truepath carries it from there. A ping asks the host, not the path.
//
// A backend's answers are not trusted: a probe reads 64 KiB at most, follows no redirects, and
// everything that it does ends with its timeout, however slowly the other side talks.
package health
