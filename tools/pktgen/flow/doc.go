// Package flow says which packets a generator sends: from where to where (Range), and which flow
// each packet belongs to (Model, Chooser). It knows nothing of frames and of how they are sent.
//
// What is random comes from a seed by an algorithm of our own, so that a run can be repeated; the
// sender in the kernel (live.c of package bpf) has the same algorithm, and a test compares them
// frame by frame.
package flow
