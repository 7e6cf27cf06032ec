// Command survive is `make survive`: many connections are alive through a balancer that is killed,
// stopped, or started again, and none of them may notice.
//
// The testbed is that of the end-to-end tests, with a service for each mode and family, and two
// queues per port. The balancer's kernel has the services' addresses, so that it would answer with
// RST whatever Sluice leaves to it. Half of the connections send a message each second, different
// at each place from every other, and compare the echo; the others are silent until the end, when
// each must still carry one. Beside them new connections are opened all the time, and a datagram
// flow for each service measures how long nothing passes.
//
// At random moments the daemon, which runs under `sluice keep`, meets with an event:
//
//	kill      SIGKILL
//	stopped   SIGSTOP; the keeper kills it after two seconds without a sign of life
//	upgrade   `sluice upgrade` to the same program
//
// The report has a line for each event, and a table of what is allowed and what was seen: broken
// connections, RSTs on the wire, gaps, lost datagrams, the identity of the counters, memory and
// descriptors. The exit status is 1 if anything was seen that is not allowed.
//
// Generator, backends and balancer share the CPUs of one machine. What else runs on it makes gaps
// longer; the first line of the report has the gap without any event.
package main
