// Package bpf is the part of the generator that runs in the kernel: live.c makes and sends frames,
// sink.c receives and counts them. Both are XDP programs; package tx loads the one and package rx
// the other.
//
// The generated files are committed: building takes no C compiler. `go generate` needs clang-14 and
// llvm-14.
package bpf
