package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"sluice/engine/api"
)

const (
	// drainPause is the time between two looks at a backend that drains.
	drainPause = 250 * time.Millisecond
	// drainGrace is how long after the deadline active connections may still be in the table: both
	// ends are asked for a packet that can be answered with a reset. What is left then belongs to
	// ends that say nothing.
	drainGrace = 15 * time.Second
	// drainLines is the least time between two lines where they can't replace each other.
	drainLines = 5 * time.Second
)

// watchDrain starts a drain and shows how many connections are left until there are none.
func watchDrain(cmd *cobra.Command, flags daemonFlags, request api.OverrideRequest) (api.Backend, error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client := flags.client()
	b, err := client.Override(ctx, request)
	switch {
	case err != nil && ctx.Err() != nil:
		return b, fmt.Errorf("interrupted before the daemon answered: sluice overrides says whether %s %s drains", request.Service, request.Backend)
	case err != nil:
		return b, err
	}
	out := cmd.OutOrStdout()
	if flags.output == formatJSON {
		out = io.Discard
	}
	d := &draining{line: progressLine{out: out, terminal: isTerminal(out)}, name: request.Service + " " + b.Endpoint(), first: left(b)}
	d.begun = time.Now()
	if request.DeadlineS > 0 {
		d.deadline = d.begun.Add(time.Duration(request.DeadlineS * float64(time.Second)))
	}
	for {
		if done, err := d.look(b); done || err != nil {
			return b, err
		}
		select {
		case <-time.After(drainPause):
		case <-ctx.Done():
			return b, d.interrupted()
		}
		if b, err = findBackend(ctx, client, request.Service, b.Endpoint()); err != nil {
			if ctx.Err() != nil {
				return b, d.interrupted()
			}
			d.line.end("")
			return b, err
		}
	}
}

// draining is one drain that somebody watches.
type draining struct {
	line     progressLine
	name     string
	first    uint64 // connections at the begin
	begun    time.Time
	deadline time.Time // zero: none
}

// look shows where the drain is, and says whether it is over.
func (d *draining) look(b api.Backend) (done bool, err error) {
	now := time.Now()
	passed := !d.deadline.IsZero() && !now.Before(d.deadline)
	switch {
	case b.Override != api.OverrideDrain:
		d.line.end("")
		return false, fmt.Errorf("the drain of %s was ended by somebody else: its weight is %d, its state %s", d.name, b.Weight, b.State)
	case left(b) == 0:
		d.line.end(fmt.Sprintf("%s: no connections are left, after %s", d.name, now.Sub(d.begun).Round(time.Second)))
		return true, nil
	case passed && b.Active == 0:
		d.line.end(fmt.Sprintf("%s: no active connections are left, after %s; %d that are over leave the table by themselves",
			d.name, now.Sub(d.begun).Round(time.Second), left(b)))
		return true, nil
	case passed && now.Sub(d.deadline) > drainGrace:
		d.line.end(fmt.Sprintf("%s: the deadline is over; %d connections have said nothing since and end with their next packet", d.name, left(b)))
		return true, nil
	}
	text := fmt.Sprintf("%s: %d of %d connections left, %d active", d.name, left(b), max(d.first, left(b)), b.Active)
	switch {
	case passed:
		text += ", they end now"
	case !d.deadline.IsZero():
		text += ", they end in " + d.deadline.Sub(now).Round(time.Second).String()
	}
	d.line.show(bar(d.first, left(b))+text, fmt.Sprint(left(b), b.Active, passed))
	return false, nil
}

// interrupted says that nothing but the watching has ended.
func (d *draining) interrupted() error {
	d.line.end("")
	until := "until sluice enable"
	if !d.deadline.IsZero() {
		until = fmt.Sprintf("and the daemon ends what is left at %s", d.deadline.Format(time.TimeOnly))
	}
	return fmt.Errorf("no longer watching: the drain of %s goes on, %s", d.name, until)
}

func left(b api.Backend) uint64 { return uint64(b.Active) + uint64(b.Inactive) }

// bar draws how much of it is done.
func bar(first, left uint64) string {
	const width = 20
	done := width
	if first > 0 {
		done = int(width * (first - min(first, left)) / first)
	}
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", width-done) + "] "
}

// findBackend lists one backend.
func findBackend(ctx context.Context, client api.Control, service, backend string) (api.Backend, error) {
	services, err := client.List(ctx)
	if err != nil {
		return api.Backend{}, err
	}
	s, err := api.FindService(services, service)
	if err != nil {
		return api.Backend{}, err
	}
	return api.FindBackend(s, backend)
}

// progressLine is a line that changes on a terminal, and lines now and then elsewhere.
type progressLine struct {
	out      io.Writer
	terminal bool
	said     string // what the last line was about
	at       time.Time
}

// show shows text. about is what of it is worth a further line where lines can't be replaced.
func (l *progressLine) show(text, about string) {
	switch {
	case l.terminal:
		fmt.Fprint(l.out, "\r\x1b[K", text)
	case about != l.said && time.Since(l.at) >= drainLines:
		fmt.Fprintln(l.out, text)
		l.said, l.at = about, time.Now()
	}
}

// end replaces the line by a last one, or by nothing.
func (l *progressLine) end(text string) {
	if l.terminal {
		fmt.Fprint(l.out, "\r\x1b[K")
	}
	if text != "" {
		fmt.Fprintln(l.out, text)
	}
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(file.Fd())
}
