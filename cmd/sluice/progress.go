package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"sluice/engine/api"
)

const (
	// drainPause is the time between two requests for the state of the draining backend.
	drainPause = 250 * time.Millisecond
	// drainGrace is how long after the deadline active connections may still be in the table: the
	// workers probe both ends for a packet that they can answer with a reset. Connections left
	// after that have silent ends.
	drainGrace = 15 * time.Second
	// drainTimeout is how long a daemon that has begun the drain may be suspended.
	drainTimeout = 2 * time.Minute
	// drainLines is the minimum time between two lines if the output is not a terminal.
	drainLines = 5 * time.Second
)

// followDrain starts a drain and shows the connections that remain until no live one does: those
// that have closed stay in the table for some minutes, in TIME_WAIT.
func followDrain(cmd *cobra.Command, flags daemonFlags, request api.OverrideRequest) (api.Backend, error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client := flags.client()
	b, err := client.Override(ctx, request)
	switch {
	case err != nil && ctx.Err() != nil:
		return b, fmt.Errorf("interrupted before the daemon answered: sluice overrides shows whether %s %s drains", request.Service, request.Backend)
	case err != nil:
		return b, err
	}
	client.Timeout = drainTimeout
	out := cmd.OutOrStdout()
	if flags.output == formatJSON {
		out = io.Discard
	}
	d := &draining{line: progressLine{out: out, terminal: isTerminal(out)}, name: request.Service + " " + b.Endpoint(), begun: time.Now()}
	if b.Active == 0 && b.Inactive > 0 {
		d.udp = isUDP(ctx, client, request.Service)
	}
	d.first = d.live(b)
	if request.DeadlineS > 0 {
		d.deadline = d.begun.Add(time.Duration(request.DeadlineS * float64(time.Second)))
	}
	for {
		if done, err := d.show(b); done || err != nil {
			return b, err
		}
		select {
		case <-time.After(drainPause):
		case <-ctx.Done():
			return b, d.interrupted()
		}
		*flags.unresponsive = nil // a worker that answers now has taken the drain up
		if b, err = client.Backend(ctx, request.Service, b.Endpoint()); err != nil {
			if ctx.Err() != nil {
				return b, d.interrupted()
			}
			d.line.end("")
			return b, err
		}
	}
}

// draining is a drain in progress.
type draining struct {
	line     progressLine
	name     string
	udp      bool   // of a service over UDP: its connections never are active
	first    uint64 // live connections at the beginning
	begun    time.Time
	deadline time.Time // zero: none
}

// show prints the progress of the drain and reports whether it is done.
func (d *draining) show(b api.Backend) (done bool, err error) {
	now := time.Now()
	passed := !d.deadline.IsZero() && !now.Before(d.deadline)
	switch {
	case b.Override != api.OverrideDrain:
		d.line.end("")
		return false, fmt.Errorf("the drain of %s was ended by another command: the backend has weight %d and state %s", d.name, b.Weight, b.State)
	case d.live(b) == 0:
		d.line.end(fmt.Sprintf("%s: no live connections are left, after %s%s", d.name, now.Sub(d.begun).Round(time.Second), d.closed(b, "; ")))
		return true, nil
	case passed && now.Sub(d.deadline) > drainGrace:
		d.line.end(fmt.Sprintf("%s: the deadline has passed; %d silent connections end with their next packet", d.name, d.live(b)))
		return true, nil
	}
	text := fmt.Sprintf("%s: %d of %d live connections left%s", d.name, d.live(b), max(d.first, d.live(b)), d.closed(b, ", "))
	switch {
	case passed:
		text += ", they end now"
	case !d.deadline.IsZero():
		text += ", they end in " + d.deadline.Sub(now).Round(time.Second).String()
	}
	d.line.show(bar(d.first, d.live(b))+text, fmt.Sprint(d.live(b), b.Inactive, passed))
	return false, nil
}

// interrupted returns the error for an interrupted verb: the drain itself continues.
func (d *draining) interrupted() error {
	d.line.end("")
	until := "until sluice enable"
	if !d.deadline.IsZero() {
		until = fmt.Sprintf("and the daemon ends the remaining connections at %s", d.deadline.Format(time.TimeOnly))
	}
	return fmt.Errorf("interrupted: the drain of %s continues, %s", d.name, until)
}

// live returns the number of connections that the backend serves. Those of TCP that are not active
// are closing, closed or reset.
func (d *draining) live(b api.Backend) uint64 {
	if d.udp {
		return uint64(b.Active) + uint64(b.Inactive)
	}
	return uint64(b.Active)
}

// closed returns a text about connections that are in the table and not live, after sep; "" if
// there are none.
func (d *draining) closed(b api.Backend, sep string) string {
	if d.udp || b.Inactive == 0 {
		return ""
	}
	return fmt.Sprintf("%s%d inactive ones expire", sep, b.Inactive)
}

// isUDP reports whether a service is known to be over UDP.
func isUDP(ctx context.Context, client *api.Client, name string) bool {
	services, _ := client.List(ctx) // on error the next request fails, too
	return slices.ContainsFunc(services, func(s api.Service) bool { return s.Name == name && s.Protocol == "udp" })
}

// bar draws the progress.
func bar(first, left uint64) string {
	const width = 20
	done := width
	if first > 0 {
		done = int(width * (first - min(first, left)) / first)
	}
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", width-done) + "] "
}

// progressLine is one line that changes on a terminal; other outputs get a new line now and then.
type progressLine struct {
	out      io.Writer
	terminal bool
	last     string // key of the last line
	at       time.Time
}

// show shows text. Outputs other than a terminal get it only if key has changed.
func (l *progressLine) show(text, key string) {
	switch {
	case l.terminal:
		fmt.Fprint(l.out, "\r\x1b[K", text)
	case key != l.last && time.Since(l.at) >= drainLines:
		fmt.Fprintln(l.out, text)
		l.last, l.at = key, time.Now()
	}
}

// end replaces the line by a last one, or removes it if text is empty.
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
