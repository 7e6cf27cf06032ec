// Command soak is `make soak`: real clients open connections all the time through a balancer with
// two workers and four queues per port, while backends die, reloads change the configuration and
// the wire loses segments. In the end it explains each connection that broke by the death of a
// backend, with its name, and fails if one is left.
//
// The testbed is that of the end-to-end tests, with a service for each mode and family. A client
// exchanges data on each of its connections and compares every byte; some connections are short,
// some carry much, and some live for long. One host after the other is killed, hangs, or falls
// silent; some return before anything can have noticed. Every reload changes something that breaks
// no connection: weights, schedulers, sources, a drained or removed backend, another service.
//
// # What explains a broken connection
//
// A server says its name first on each connection, so that its client knows at which backend it is.
// Where it did not, because the connection broke before, the daemon's table has the backend. Then a
// death explains the connection in two cases: the server at the other end was killed, or was dead
// when the connection was sent to it; or the daemon's health checks noticed the death, and it ended
// the connections of the backend. A backend that hangs or is silent for too short a time to be
// noticed must break nothing. Clients wait for so long that loss alone breaks nothing, either.
//
// The two workers need a CPU each that nothing else uses for long. One that gets none for more than
// a second, for which the report has a line, holds a SYN while a later copy of it opens and closes
// the connection; then the SYN opens another one in its place, and the client is reset.
package main
