// Package health checks whether backends work.
//
// A Prober runs each check once, however many services have it, on a goroutine of its own: probe,
// wait, probe. Each type of probe has a file (tcp.go, http.go, udp.go, dns.go, ping.go). state.go
// decides how many results in a row change a backend's state. Package policy decides what the
// states mean for a service. README.md is the operator's manual.
//
// A backend starts as up: a restart of the balancer, or a new backend in the file, must not cause
// an outage until Rise checks have succeeded. The first checks run at once, and a backend that does
// not work goes down after Fall checks, as at any other time. (keepalived does the same without
// `alpha`.)
//
// Probes use the kernel's sockets. In nat and fullnat they go to the backend's own address, as
// forwarded packets do. In tun and dr, forwarded packets go to the service's address, in a tunnel
// or with the backend's MAC address, and so do probes: Check.Through is the address that sockets
// connect to instead, and package truepath carries the packets from there. A ping asks the host,
// not the path.
//
// A backend's answers are not trusted. A probe reads at most 64 KiB, over HTTP 320 KiB of
// headers more, follows no redirects, and ends with its timeout, however slowly the other side
// sends. Within these limits it accepts what curl and keepalived accept.
//
// Goroutines: one per distinct check. Any goroutine may call a Prober's methods. The package
// imports pipeline/service, nothing else of Sluice. Sources: RFC 792, RFC 4443, RFC 9110, RFC 2439,
// keepalived's check_*.c, and ip_vs_ctl.c for weights.
package health
