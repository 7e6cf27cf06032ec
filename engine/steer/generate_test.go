package steer_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedFilesAreCurrent compiles steer.c again, in another directory, and compares every
// byte: the committed object is what this source and this compiler give, on any machine and in any
// checkout.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	for _, tool := range []string{"clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: run \"apt-get install clang-14 llvm-14\"", tool)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"steer.c", "bpf.h", "wire.h"} {
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
	generate := exec.Command(filepath.Join(dir, "bpf2go"), generatorArguments(t)...)
	generate.Dir = dir
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("bpf2go: %v\n%s", err, out)
	}
	for _, name := range []string{"steer_bpfel.go", "steer_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		generated, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, generated) {
			t.Errorf("%s does not match steer.c: run \"go generate ./engine/steer\" and commit the result", name)
		}
	}
}

// generatorArguments are those of the go:generate line.
func generatorArguments(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("generate.go")
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(source), "\n//go:generate go tool bpf2go ")
	if !found {
		t.Fatal("generate.go has no line for bpf2go")
	}
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}
