// Command testall is `make test`: it runs everything that must pass and counts it.
//
//	vet       go vet ./...
//	inline    go run ./tools/inline: calls on the packet path that the compiler must inline
//	memory    packages with tests that need nothing but memory, side by side
//	machine   packages with tests that make namespaces or load BPF programs, one after the other:
//	          they share one kernel
//	race      packages with goroutines that share memory, again, under the race detector
//
// gotestsum runs the tests of each pass and prints one line per package, then what failed and what
// was skipped. As root no test may be skipped except under the race detector, where for one
// allocations cannot be counted: root has everything that a test may ask for. The last line of the
// output has the totals.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// perPackage bounds the tests of one package, so that a hang ends with a stack trace.
const perPackage = "-timeout=20m"

func main() {
	started := time.Now()
	if err := installMissing(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "make test:", err)
		os.Exit(1)
	}
	once, raced, err := runAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, "make test:", err)
	}
	verdict := "passed"
	if err != nil || once.failed+raced.failed > 0 || once.passed == 0 || once.skipped > 0 && os.Geteuid() == 0 {
		verdict = "FAILED"
	}
	fmt.Printf("make test %s: %s; with the race detector: %s; %.0f s\n", verdict, once, raced, time.Since(started).Seconds())
	if verdict != "passed" {
		os.Exit(1)
	}
}

// runAll runs all passes, even after one that fails.
func runAll() (once, raced tally, err error) {
	packages, err := list()
	if err != nil {
		return once, raced, err
	}
	heading("vet and inline", len(packages))
	err = errors.Join(check("go", "vet", "./..."), check("go", "run", "./tools/inline"))
	memory, machine, race := passes(packages)
	once = test("memory", memory)
	once.add(test("machine", machine, "-p=1"))
	return once, test("race", race, "-race", "-p=1"), err
}

// check runs a command that reports by its exit code.
func check(name string, args ...string) error {
	command := exec.Command(name, args...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// Package is a package that has tests.
type Package struct {
	Path    string
	Imports []string // of the package and of its tests
}

// list returns all packages of the module that have tests.
func list() (packages []Package, err error) {
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} {{join .Imports " "}}{{end}}`
	command := exec.Command("go", "list", "-f", format, "./...")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(output)) {
		if words := strings.Fields(line); len(words) > 0 {
			packages = append(packages, Package{words[0], words[1:]})
		}
	}
	slices.SortFunc(packages, func(a, b Package) int { return cmp.Compare(a.Path, b.Path) })
	return packages, nil
}

// kernel lists the imports of packages that change the state of the machine, or that have tests
// which do.
var kernel = []string{"sluice/tools/netlab", "github.com/vishvananda/netns", "github.com/cilium/ebpf"}

// shared lists the directories of packages with goroutines that share memory.
var shared = []string{"sluice/rings", "sluice/pipeline/counter", "sluice/engine", "sluice/cmd/sluice"}

// passes sorts packages by what their tests need.
func passes(packages []Package) (memory, machine, race []string) {
	for _, p := range packages {
		needsMachine := strings.HasPrefix(p.Path, "sluice/tools/netlab") || slices.ContainsFunc(p.Imports, func(imported string) bool {
			return slices.ContainsFunc(kernel, func(mark string) bool { return within(imported, mark) })
		})
		if needsMachine {
			machine = append(machine, p.Path)
		} else {
			memory = append(memory, p.Path)
		}
		if slices.ContainsFunc(shared, func(dir string) bool { return within(p.Path, dir) }) {
			race = append(race, p.Path)
		}
	}
	return memory, machine, race
}

// test runs the tests of packages with gotestsum and returns the totals. No result is taken from
// the test cache, which does not know the state of the kernel.
func test(pass string, packages []string, flags ...string) (total tally) {
	heading(pass, len(packages))
	if len(packages) == 0 {
		return total
	}
	dir, err := os.MkdirTemp("", "sluice-testall-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make test:", err)
		return tally{failed: 1}
	}
	defer os.RemoveAll(dir)
	totals := filepath.Join(dir, "totals")
	command := exec.Command("go", slices.Concat([]string{"tool", "-modfile=tools/gotestsum/go.mod", "gotestsum", "--format=pkgname", "--no-color",
		"--post-run-command=sh -c 'echo " + reported + " >" + totals + "'", "--", "-count=1", perPackage}, flags, packages)...)
	command.Env = os.Environ()
	if pass == "race" {
		command.Env = append(command.Env, "CGO_ENABLED=1", "CC="+compiler())
	}
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	failure := command.Run()
	output, err := os.ReadFile(totals)
	if err == nil {
		total, err = read(string(output))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "make test: gotestsum reported no totals:", err)
	}
	if (failure != nil || err != nil) && total.failed == 0 {
		total.failed = 1 // a package that does not build, or that ended outside of its tests
	}
	return total
}

func heading(pass string, packages int) { fmt.Printf("== %s: %d packages\n", pass, packages) }

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
