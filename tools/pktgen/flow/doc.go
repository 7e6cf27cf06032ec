// Package flow selects the packets of a generator: their endpoints (Range) and the flow that each
// packet belongs to (Model, Chooser). It does not depend on frames and on how they are sent.
//
// Random choices come from a seed by an algorithm of this package, so that a run can be repeated.
// The sender in the kernel (live.c of package bpf) has the same algorithm, and a test compares them
// frame by frame.
package flow
