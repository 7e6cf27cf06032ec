package bpf_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedFilesAreCurrent compiles the programs again, in another directory, and compares
// every byte: the committed objects are what these sources and this compiler give, on any machine
// and in any checkout.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	for _, tool := range []string{"clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s isn't installed: run \"apt-get install clang-14 llvm-14\"", tool)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"live.c", "sink.c", "bpf.h", "wire.h"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bpf2go"), "github.com/cilium/ebpf/cmd/bpf2go")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building bpf2go: %v\n%s", err, out)
	}
	for _, arguments := range generatorArguments(t) {
		generate := exec.Command(filepath.Join(dir, "bpf2go"), arguments...)
		generate.Dir = dir
		if out, err := generate.CombinedOutput(); err != nil {
			t.Fatalf("bpf2go: %v\n%s", err, out)
		}
	}
	for _, name := range []string{"live_bpfel.go", "live_bpfel.o", "sink_bpfel.go", "sink_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		generated, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, generated) {
			t.Errorf("%s isn't what the source gives: run \"go generate ./tools/pktgen/bpf\" and commit the result", name)
		}
	}
}

// generatorArguments returns those of the go:generate lines.
func generatorArguments(t *testing.T) (all [][]string) {
	t.Helper()
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		if arguments, ok := strings.CutPrefix(line, "//go:generate go tool bpf2go "); ok {
			all = append(all, strings.Fields(arguments))
		}
	}
	if len(all) != 2 {
		t.Fatalf("generate.go has %d lines for bpf2go, want 2", len(all))
	}
	return all
}
