// Command testall is `make test`: it runs everything that must pass and counts it.
//
//	vet       go vet ./...
//	memory    packages whose tests need nothing but memory, side by side
//	machine   packages whose tests make namespaces or load BPF programs, one after the other: they share one kernel
//	race      the packages whose goroutines share memory, again, under the race detector
//
// Every skipped test is printed. As root none may be skipped but under the race detector, which for
// one cannot count allocations: root has all that a test may ask for. The last line of the output
// says how many tests ran.
package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// perPackage bounds the tests of one package, so that a hang ends with a stack trace and not with
// patience.
const perPackage = "-timeout=8m"

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
	for _, name := range once.Skipped {
		fmt.Println("skipped:", name)
	}
	verdict := "passed"
	if err != nil || once.Failed+raced.Failed > 0 || once.Passed == 0 || len(once.Skipped) > 0 && os.Geteuid() == 0 {
		verdict = "FAILED"
	}
	fmt.Printf("make test %s: %s; with the race detector: %s; %.0f s\n", verdict, once, raced, time.Since(started).Seconds())
	if verdict != "passed" {
		os.Exit(1)
	}
}

// runAll runs the passes in turn, all of them even if one fails: one run tells everything.
func runAll() (once, raced Tally, err error) {
	packages, err := list()
	if err != nil {
		return once, raced, err
	}
	heading("vet", len(packages))
	vet := exec.Command("go", "vet", "./...")
	vet.Stdout, vet.Stderr = os.Stdout, os.Stderr
	vetErr := vet.Run()
	if vetErr != nil {
		vetErr = fmt.Errorf("go vet: %w", vetErr)
	}
	memory, machine, race := passes(packages)
	once = test("memory", memory)
	once.add(test("machine", machine, "-p=1"))
	return once, test("race", race, "-race", "-p=1"), vetErr
}

// Package is what `go list` says of one that has tests.
type Package struct {
	Path    string
	Imports []string // of its tests
}

// list gives all packages of the module that have tests.
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

// kernel marks the packages that change the machine's state: they, or their tests, import one of
// these.
var kernel = []string{"sluice/tools/netlab", "github.com/vishvananda/netns", "github.com/cilium/ebpf"}

// shared are the rooms in which goroutines share memory.
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
		if slices.ContainsFunc(shared, func(room string) bool { return within(p.Path, room) }) {
			race = append(race, p.Path)
		}
	}
	return memory, machine, race
}

// test runs the tests of packages and counts them. No result is taken from the cache: the kernel is
// no part of its key.
func test(pass string, packages []string, flags ...string) Tally {
	heading(pass, len(packages))
	if len(packages) == 0 {
		return Tally{}
	}
	command := exec.Command("go", slices.Concat([]string{"test", "-json", "-count=1", perPackage}, flags, packages)...)
	command.Env = os.Environ()
	if pass == "race" {
		command.Env = append(command.Env, "CGO_ENABLED=1", "CC="+compiler())
	}
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go test:", err)
		return Tally{Failed: 1}
	}
	tally := count(output, os.Stdout)
	if err := command.Wait(); err != nil && tally.Failed == 0 {
		fmt.Fprintln(os.Stderr, "go test:", err)
		tally.Failed++
	}
	return tally
}

func heading(pass string, packages int) { fmt.Printf("== %s: %d packages\n", pass, packages) }

func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
