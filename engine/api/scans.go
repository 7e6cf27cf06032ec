package api

import (
	"context"
	"errors"
	"fmt"
)

// A scan walks through every worker's connection table. Each step of it is short, but between two
// batches a worker takes a step of whichever scan is there: with many of them it would do little
// else. So few run at once and some wait; the rest is refused. The network has a turn of its own,
// so that nobody there keeps the operator waiting who asks on the socket.
const (
	socketScans  = 2
	networkScans = 1
	waitingScans = 8 // at each of the two
)

// errManyScans is for one scan too many.
var errManyScans = errors.New("too many scans")

// scans lets so many run at once as running has room for, and so many be there at all as present
// has room for.
type scans struct{ running, present chan struct{} }

func newScans(atOnce int) scans {
	return scans{make(chan struct{}, atOnce), make(chan struct{}, atOnce+waitingScans)}
}

// scan runs f in its turn.
func (s *Server) scan(ctx context.Context, f func() error) error {
	of := s.networkScans
	if callerOf(ctx).all {
		of = s.socketScans
	}
	select {
	case of.present <- struct{}{}:
		defer func() { <-of.present }()
	default:
		return fmt.Errorf("%w: %d of conns and explain run at once here and %d more may wait, so that packets need not; "+
			"try again, one after the other", errManyScans, cap(of.running), waitingScans)
	}
	select {
	case of.running <- struct{}{}:
		defer func() { <-of.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return f()
}
