package api

import (
	"context"
	"errors"
	"fmt"
)

// A scan reads every worker's connection table. Each step is short, but between two batches a
// worker takes a step of every scan: with many scans it would do little else. So few run at once,
// some wait, and the rest is refused. The network has limits of its own, so that its clients do not
// delay an operator on the socket.
const (
	socketScans  = 2
	networkScans = 1
	waitingScans = 8 // for each of the two
)

// errManyScans is the error when there are too many scans.
var errManyScans = errors.New("too many scans")

// scans limits the scans: running has as many places as may run at once, present as many as may run
// or wait.
type scans struct{ running, present chan struct{} }

func newScans(atOnce int) scans {
	return scans{make(chan struct{}, atOnce), make(chan struct{}, atOnce+waitingScans)}
}

// scan runs f when it is its turn.
func (s *Server) scan(ctx context.Context, f func() error) error {
	of := s.networkScans
	if callerOf(ctx).all {
		of = s.socketScans
	}
	select {
	case of.present <- struct{}{}:
		defer func() { <-of.present }()
	default:
		return fmt.Errorf("%w: at most %d requests for conns and explain run at once and %d more may wait, to protect the packet path; "+
			"try again, one request at a time", errManyScans, cap(of.running), waitingScans)
	}
	select {
	case of.running <- struct{}{}:
		defer func() { <-of.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return f()
}
