// Command fuzz is `make fuzz`: it runs each fuzz test for a time, prints what each did, and fails
// if one found a fault or stood still.
//
// go test minimizes an input that reaches new code by running it again and again, for up to a
// minute. A target that keeps a world over many inputs may never reach the same code again, and
// then does nothing else. So minimizing is limited to one run. An input that fails is written to
// the target's testdata/fuzz, where `make test` runs it from then on: minimize it by hand, and
// commit it.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	each := flag.Duration("time", 30*time.Second, "how long each target runs")
	only := flag.String("run", "", "only targets that match this `regexp`, such as FuzzParse or conf")
	flag.Parse()
	if err := fuzz(os.Stdout, *each, *only, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "make fuzz:", err)
		os.Exit(1)
	}
}

// target is one fuzz test.
type target struct{ pkg, name string }

// fuzz runs the targets of the packages, all of the module if there are none.
func fuzz(out io.Writer, each time.Duration, only string, packages []string) error {
	selected, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	targets, err := list(packages)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "execs\texecs/s\tlongest stop\ttarget\t")
	ran, failed := 0, 0
	for _, t := range targets {
		if !selected.MatchString(t.pkg + " " + t.name) {
			continue
		}
		ran++
		fmt.Fprintf(out, "== %s %s\n", t.pkg, t.name)
		result, err := t.run(out, each)
		verdict := ""
		if err == nil {
			err = result.complaint()
		}
		if err != nil {
			failed++
			verdict = "FAILED: " + err.Error()
		}
		fmt.Fprintf(table, "%d\t%.0f\t%s\t%s %s\t%s\n", result.execs, result.rate(), result.stop, t.pkg, t.name, verdict)
	}
	_ = table.Flush() // to stdout
	switch {
	case ran == 0:
		return fmt.Errorf("no target matches %q", only)
	case failed > 0:
		return fmt.Errorf("%d of %d targets failed", failed, ran)
	}
	return nil
}

// list returns the fuzz tests of the packages.
func list(packages []string) (targets []target, err error) {
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}`
	output, err := command("go", append([]string{"list", "-f", format}, packages...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for _, pkg := range strings.Fields(string(output)) {
		output, err := command("go", "test", "-list", "^Fuzz", pkg).Output()
		if err != nil {
			return nil, fmt.Errorf("go test -list %s: %w", pkg, err)
		}
		for line := range strings.Lines(string(output)) {
			if name := strings.TrimSpace(line); strings.HasPrefix(name, "Fuzz") {
				targets = append(targets, target{pkg, name})
			}
		}
	}
	return targets, nil
}

func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	return c
}

// run fuzzes the target and copies the output of go test.
func (t target) run(out io.Writer, each time.Duration) (result progress, err error) {
	c := command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "1x", t.pkg)
	output, err := c.StdoutPipe()
	if err != nil {
		return result, err
	}
	if err := c.Start(); err != nil {
		return result, err
	}
	for lines := bufio.NewScanner(output); lines.Scan(); {
		fmt.Fprintln(out, lines.Text())
		result.read(lines.Text())
	}
	if err := c.Wait(); err != nil {
		return result, fmt.Errorf("go test: %w", err)
	}
	return result, nil
}

// progress is what a target did, from the lines that go test prints every three seconds.
type progress struct {
	execs   int           // so far
	elapsed time.Duration // at the last line
	moved   time.Duration // at the last line with more execs than the one before
	stop    time.Duration // the longest time without an exec
}

// report is a line of go test such as "fuzz: elapsed: 6s, execs: 325 (17/sec), new interesting: 1".
var report = regexp.MustCompile(`^fuzz: elapsed: (\S+), execs: (\d+) `)

func (p *progress) read(line string) {
	found := report.FindStringSubmatch(line)
	if found == nil {
		return
	}
	elapsed, err := time.ParseDuration(found[1])
	execs, err2 := strconv.Atoi(found[2])
	if err != nil || err2 != nil {
		return
	}
	p.elapsed = elapsed
	if execs > p.execs {
		p.execs, p.moved = execs, elapsed
	}
	p.stop = max(p.stop, p.elapsed-p.moved)
}

func (p *progress) rate() float64 {
	if p.elapsed == 0 {
		return 0
	}
	return float64(p.execs) / p.elapsed.Seconds()
}

// longestStop is how long a target may do nothing: one exec and the start of its processes take
// less on a loaded machine.
const longestStop = 10 * time.Second

// complaint returns an error if the target tested nothing, or stood still.
func (p *progress) complaint() error {
	switch {
	case p.execs == 0:
		return fmt.Errorf("it executed nothing")
	case p.stop > longestStop:
		return fmt.Errorf("it stood still for %s", p.stop)
	}
	return nil
}
