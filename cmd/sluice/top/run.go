package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"sluice/cmd/sluice/text"
)

// Run shows the view in the terminal until the user quits or ctx ends. It always restores the
// terminal.
func (m *Model) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil // the user has quit
	}
	return err
}

// Once returns the figures of one interval.
func Once(ctx context.Context, daemon Daemon, interval time.Duration) (Figures, error) {
	before, err := ReadSnapshot(ctx, daemon)
	if err != nil {
		return Figures{}, err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return Figures{}, ctx.Err()
	}
	now, err := ReadSnapshot(ctx, daemon)
	return Compare(before, now), err
}

// Print writes one frame as plain text, with all lines, for so many columns; reasons may be longer.
func Print(w io.Writer, f Figures, columns int) error {
	m := New(nil, "", 0)
	m.now, m.last, m.clock = f, f.Snapshot, f.At
	m.width, m.height = columns, 1<<30
	for i := range f.Services {
		m.foldedByHand[f.Services[i].Key()] = false
	}
	lines := []string{m.titleLine()}
	for _, alarm := range alarms(&f.Status) {
		lines = append(lines, "! "+text.OneLine(alarm))
	}
	lines = append(lines, m.packetsLine(), m.workersLine(), m.dropsLine(), m.heading(0))
	for _, r := range m.rows() {
		lines = append(lines, m.line(r))
	}
	for _, line := range lines {
		line = strings.TrimRight(ansi.Strip(line), " ")
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
