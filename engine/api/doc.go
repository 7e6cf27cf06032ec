// Package api is the interface to a running daemon: the types of its answers, the Control interface
// that the engine implements, and HTTP with JSON that offers it on a unix socket and on the
// network.
//
// It does not import the engine: cmd/sluice passes the engine to Serve as a Control. It imports
// pipeline/service and pipeline/counter for their values, and engine/api/page.
//
// Goroutines: those of net/http, one that tries to listen on the network address, one that takes
// samples while there are event streams, and one per trace. Sources: the OpenAPI specification 3.1,
// RFC 9110, and the HTML standard's server-sent events.
package api
