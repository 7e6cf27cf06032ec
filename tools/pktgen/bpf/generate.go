package bpf

// The compiler is named with its version: another one makes other bytes, and a test compares them
// (clang-14 and llvm-14 of Debian 12).
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type pick -type endpoints -go-package bpf Live live.c -- -mcpu=v3 -Wall -Wextra -Werror -nostdinc
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -type counters -type follow -go-package bpf Sink sink.c -- -mcpu=v3 -Wall -Wextra -Werror -nostdinc
