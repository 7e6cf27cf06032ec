// Package bpf is the part of the generator that runs in the kernel: live.c makes and sends frames,
// sink.c receives and counts them. Both are XDP programs; package tx loads live.c and package rx
// loads sink.c.
//
// The generated files are committed: building needs no C compiler. `go generate` needs clang-14 and
// llvm-14.
package bpf
