// Package bpf2go checks in tests that committed BPF objects match their sources.
package bpf2go

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Check runs the go:generate lines of generate.go in the directory of the test again, in a copy of
// its C files, and compares every byte of the generated files with those in the directory. The
// committed objects are what these sources and this compiler give, on any machine and in any
// checkout.
func Check(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"clang-14", "llvm-strip-14"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: run \"apt-get install clang-14 llvm-14\"", tool)
		}
	}
	dir := t.TempDir()
	for _, pattern := range []string{"*.c", "*.h"} {
		for _, name := range files(t, pattern) {
			if err := os.WriteFile(filepath.Join(dir, name), read(t, name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	program := filepath.Join(dir, "bpf2go")
	run(t, ".", "go", "build", "-o", program, "github.com/cilium/ebpf/cmd/bpf2go")
	for line := range strings.Lines(string(read(t, "generate.go"))) {
		if arguments, ok := strings.CutPrefix(line, "//go:generate go tool bpf2go "); ok {
			run(t, dir, program, strings.Fields(arguments)...)
		}
	}
	generated := append(files(t, "*_bpfel.go"), files(t, "*_bpfel.o")...)
	if len(generated) == 0 {
		t.Fatal("the directory has no generated files")
	}
	for _, name := range generated {
		if !bytes.Equal(read(t, name), read(t, filepath.Join(dir, name))) {
			t.Errorf("%s does not match its source: run \"go generate\" in this directory and commit the result", name)
		}
	}
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func run(t *testing.T, dir, program string, arguments ...string) {
	t.Helper()
	command := exec.Command(program, arguments...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(arguments, " "), err, output)
	}
}
