package steer

// The compiler is named with its version: another one makes other bytes, and a test compares them
// (clang-14 and llvm-14 of Debian 12).
//go:generate go tool bpf2go -cc clang-14 -target bpfel -type role -type outcome -go-package steer steer steer.c -- -mcpu=v3 -Wall -Wextra -Werror -nostdinc
