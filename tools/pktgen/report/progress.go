package report

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// Progress writes a line for each sample: on a terminal it replaces the one before, elsewhere it
// follows it. It belongs to one goroutine.
type Progress struct {
	out      io.Writer
	terminal bool
	open     bool // the last line is not ended
	counts   bool // there is a receiver
}

// NewProgress returns a Progress that writes to out. receives means that there is a receiver, and
// so loss and latency.
func NewProgress(out io.Writer, receives bool) *Progress {
	return &Progress{out: out, terminal: isTerminal(out), counts: receives}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// Sample writes what happened in one interval.
func (p *Progress) Sample(s trial.Sample) {
	line := fmt.Sprintf("%5.0fs  sent %s", s.AtS, rate(s.SentPPS))
	if p.counts {
		line += fmt.Sprintf("  received %s  lost %s", rate(s.ReceivedPPS), count(s.Lost))
	}
	if s.LatencyP50NS > 0 {
		line += fmt.Sprintf("  latency p50 %s p99 %s", nanoseconds(s.LatencyP50NS), nanoseconds(s.LatencyP99NS))
	}
	if !p.terminal {
		fmt.Fprintln(p.out, line)
		return
	}
	const clearToEnd = "\x1b[K"
	fmt.Fprint(p.out, "\r"+line+clearToEnd)
	p.open = true
}

// Trial writes the outcome of one trial of a search, which stays.
func (p *Progress) Trial(o search.Outcome) {
	p.End()
	asked, verdict := "as fast as possible", "lost"
	if o.AskedPPS > 0 {
		asked = rate(o.AskedPPS)
	}
	if o.Passed {
		verdict = "passed"
	}
	fmt.Fprintf(p.out, "trial at %s: sent %s, lost %s of %s (%s): %s\n", asked, rate(o.SentPPS), count(o.Lost), count(o.Sent), percent(o.LossRatio), verdict)
}

// End ends the last line.
func (p *Progress) End() {
	if p.open {
		fmt.Fprintln(p.out)
		p.open = false
	}
}
