// Package reference checks in tests that a README.md has the reference that the program generates.
// go test PACKAGE -run Reference -update writes it. A test that uses it is named TestReference.
package reference

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write README.md again")

// mark ends the last hand-written line of a README. The generated part follows.
const mark = "-update`. -->\n\n"

// Whole checks that README.md in the directory of the test equals text.
func Whole(t testing.TB, text string) {
	t.Helper()
	if *update {
		write(t, text)
	}
	if read(t) != text {
		stale(t)
	}
}

// Rest checks that the part of README.md after the mark equals text.
func Rest(t testing.TB, text string) {
	t.Helper()
	head, rest, ok := strings.Cut(read(t), mark)
	if !ok {
		t.Fatalf("README.md has lost the line after which the reference stands: it ends with %q", mark)
	}
	switch {
	case *update:
		write(t, head+mark+text)
	case rest != text:
		stale(t)
	}
}

func stale(t testing.TB) {
	t.Helper()
	dir, _ := os.Getwd() // optional: the test's name shows the place
	t.Error("README.md is not current: run go test -run Reference -update in", dir)
}

func read(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile("README.md", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
