// Package api is how a running daemon is asked and told: the types of its answers, the Control
// interface that the engine implements, and HTTP with JSON over a unix socket that carries both to
// the verbs.
//
// It does not import the engine: cmd/sluice hands the engine to Serve as a Control.
package api
