package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"sluice/cmd/sluice/text"
	"sluice/engine/api"
)

// The terminal's own sixteen colours, which its user has chosen. A colour only repeats what a word
// states.
var (
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
	careful = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	good    = lipgloss.NewStyle().Foreground(lipgloss.Green)
	quiet   = lipgloss.NewStyle().Faint(true)
	strong  = lipgloss.NewStyle().Bold(true)
	chosen  = lipgloss.NewStyle().Reverse(true)
	shout   = lipgloss.NewStyle().Reverse(true).Bold(true)
)

var troubleStyle = map[int]lipgloss.Style{dead: bad, broken: bad, draining: careful, fine: good}

// Lines of the frame besides the list: five above, possibly an alarm, the heading, and two below.
const (
	headerLines = 5
	otherLines  = headerLines + 1 + 1 + 2
	alarmTurns  = 3 // measurements for which each of several alarms is shown
)

// listHeight returns how many lines the list has.
func (m *Model) listHeight() int {
	if len(m.now.Status.Attention) > 0 {
		return max(1, m.height-otherLines)
	}
	return max(1, m.height-otherLines+1)
}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(strings.Join(m.frame(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "sluice top"
	return v
}

// frame returns the screen, line by line.
func (m *Model) frame() []string {
	var lines []string
	switch {
	case m.width < 40 || m.height < otherLines+2:
		return []string{ansi.Truncate(fmt.Sprintf("%dx%d is too small, at least 40x%d", m.width, m.height, otherLines+2), m.width, "")}
	case m.last.At.IsZero():
		lines = m.waiting()
	default:
		lines = append(m.header(), m.list()...)
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:m.height-1], m.footer())
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "…")
	}
	return lines
}

// waiting returns the screen before the first answer of a daemon.
func (m *Model) waiting() []string {
	lines := []string{strong.Render("sluice top"), ""}
	if m.lost == nil {
		return append(lines, "connecting to the daemon on "+m.where+" ...")
	}
	lines = append(lines, strings.Split(bad.Render(ansi.Wrap(text.OneLine(m.lost.Error()), m.width, "")), "\n")...)
	return append(lines, "", fmt.Sprintf("trying again every %v", m.interval))
}

// header returns the lines about the whole machine.
func (m *Model) header() []string {
	lines := []string{m.titleLine()}
	if alarms := alarms(&m.now.Status); len(alarms) > 0 {
		at := m.turn / alarmTurns % len(alarms)
		lines = append(lines, careful.Render(fmt.Sprintf("! %d/%d %s", at+1, len(alarms), text.OneLine(alarms[at]))))
	}
	return append(lines, m.packetsLine(), m.historyLine(), m.workersLine(), m.dropsLine())
}

// alarms returns what needs attention: at first the figures of services under pressure or a SYN
// flood.
func alarms(s *api.Status) (all []string) {
	for i := range s.Pressure {
		p := &s.Pressure[i]
		all = append(all, fmt.Sprintf("%s: %s new conns/s find no entry %s, for %s", p.Service, text.SI(p.PerSecond), p.SourcesText(), text.Ago(p.SinceS)))
	}
	for i := range s.FirstPackets {
		if f := &s.FirstPackets[i]; f.Flood {
			all = append(all, fmt.Sprintf("%s: %s, for %s", f.Service, f, text.Ago(f.SinceS)))
		}
	}
	return append(all, s.Attention...)
}

// titleLine returns one sentence about the problems.
func (m *Model) titleLine() string {
	if m.silent() {
		why := "the daemon does not answer"
		if m.lost != nil {
			why = text.OneLine(m.lost.Error())
		}
		return shout.Render(pad(fmt.Sprintf(" no data since %s (%s): trying again. %s",
			m.last.At.Format(time.TimeOnly), text.Ago(m.clock.Sub(m.last.At).Seconds()), why), m.width))
	}
	backends, dead := api.CountBackends(m.now.Services...), 0
	for i := range m.now.Services {
		if usable(&m.now.Services[i]) == 0 {
			dead++
		}
	}
	var words []string
	if dead > 0 {
		words = append(words, bad.Render(fmt.Sprintf("services %d/%d dead", dead, len(m.now.Services))))
	}
	style := good
	switch {
	case backends.Down > 0:
		style = bad
	case backends.Drain > 0:
		style = careful
	}
	words = append(words, style.Render("backends "+backends.String()))
	left := strong.Render("sluice "+m.now.Stats.Version) + quiet.Render(" up "+text.Ago(m.now.Stats.UptimeS)+"  ")
	return spread(left+strings.Join(words, ", "), quiet.Render(m.now.At.Format("15:04:05")), m.width)
}

func (m *Model) packetsLine() string {
	f, t := m.now, m.now.Stats.Tables
	return fmt.Sprintf("%s %s/s  %s %s  %s %s bit/s  %s %s/s  %s %s of %s",
		quiet.Render("packets"), text.SI(f.Rx), quiet.Render("in"), text.SI(f.InBits), quiet.Render("out"), text.SI(f.OutBits),
		quiet.Render("new conns"), text.SI(f.CPS),
		quiet.Render("conns"), text.SI(float64(t.ConnectionsV4+t.ConnectionsV6)), text.SI(float64(t.Capacity)))
}

func (m *Model) historyLine() string {
	const label, tail = "packets/s ", 12
	columns := min(historyLen, m.width-len(label)-tail)
	shown := m.packets[max(0, len(m.packets)-columns):]
	greatest := 0.0
	for _, v := range shown {
		greatest = max(greatest, v)
	}
	return quiet.Render(label) + text.Sparkline(shown, columns) + quiet.Render(" max "+text.SI(greatest))
}

// workersLine has a bar for each worker if there is space, else a block.
func (m *Model) workersLine() string {
	const label, number = "busy ", 8 // columns for " w0 100%" besides the bar
	n := max(1, len(m.now.Busy))
	room := (m.width-len(label))/n - number - 1
	var line strings.Builder
	line.WriteString(quiet.Render(label))
	if room < 2 {
		greatest := 0.0
		for _, share := range m.now.Busy {
			greatest = max(greatest, share)
		}
		// A value of 1 before the others scales the blocks to 100 %.
		blocks := []rune(text.Sparkline(append([]float64{1}, m.now.Busy...), n+1))[1:]
		return line.String() + string(blocks) + quiet.Render(fmt.Sprintf(" %d workers, max %.0f%%", n, 100*greatest))
	}
	for i, share := range m.now.Busy {
		if m.now.Stats.Workers[i].StuckS > 0 {
			fmt.Fprintf(&line, "%s  ", bad.Render(fmt.Sprintf("w%d STUCK", m.now.Stats.Workers[i].Worker)))
			continue
		}
		bar := text.Bar(share, min(room, 20))
		if share > 0.9 {
			bar = bad.Render(bar)
		}
		fmt.Fprintf(&line, "%s %s %3.0f%%  ", quiet.Render(fmt.Sprint("w", m.now.Stats.Workers[i].Worker)), bar, 100*share)
	}
	return line.String()
}

func (m *Model) dropsLine() string {
	if len(m.now.Drops) == 0 && m.now.Stats.LostInCrash == 0 {
		return quiet.Render("drops none")
	}
	parts := []string{quiet.Render("drops") + " " + text.SI(m.now.Lost) + "/s"}
	for _, d := range m.now.Drops {
		part := fmt.Sprintf("%s %s/s (%s)", d.Name, text.SI(d.PerSecond), text.SI(float64(d.Total)))
		style := quiet
		if d.PerSecond > 0 {
			style = careful
		}
		parts = append(parts, style.Render(part))
	}
	if n := m.now.Stats.LostInCrash; n > 0 {
		parts = append(parts, quiet.Render("lost in crash "+text.SI(float64(n))))
	}
	return strings.Join(parts, "  ")
}

// list returns the heading, the lines that fit, and a line about the selected one.
func (m *Model) list() []string {
	if m.help {
		return helpLines()
	}
	rows, height := m.rows(), m.listHeight()
	m.cursorAt = m.place(rows)
	m.offset = max(0, min(m.offset, m.cursorAt, len(rows)-height))
	m.offset = max(m.offset, m.cursorAt-height+1)
	lines := []string{m.heading(len(rows))}
	for i := m.offset; i < min(len(rows), m.offset+height); i++ {
		line := m.line(rows[i])
		if i == m.cursorAt {
			m.cursor = rows[i].id
			line = chosen.Render(pad(ansi.Strip(line), m.width))
		}
		lines = append(lines, line)
	}
	if len(rows) == 0 {
		lines = append(lines, quiet.Render("  nothing to show: "+m.whyEmpty()))
		return lines
	}
	for len(lines) < height+1 {
		lines = append(lines, "")
	}
	return append(lines, m.detail(rows[m.cursorAt]))
}

func (m *Model) whyEmpty() string {
	switch {
	case m.filter.Value() != "":
		return "no service matches the filter (Esc clears it)"
	case m.onlyTrouble:
		return "no service has problems (t shows all)"
	}
	return "the configuration has no services"
}

func helpLines() []string {
	lines := []string{strong.Render("Keys")}
	for _, k := range keyHelp {
		lines = append(lines, fmt.Sprintf("  %-16s %s", k.keys, k.does))
	}
	return append(lines, "", quiet.Render("  PPS and BIT/S are both directions together. Any key goes back."))
}

// Columns after the name.
const (
	stateColumn  = 7
	sinceColumn  = 7
	numberColumn = 7 // four of them
	sparkAtLeast = 10
)

// nameWidth returns the space that the fixed columns leave; in wide terminals the name is limited
// and the sparkline gets the rest.
func (m *Model) nameWidth() int {
	return max(8, min(52, m.width-stateColumn-sinceColumn-4*numberColumn-sparkAtLeast))
}

func (m *Model) sparkWidth() int {
	return max(0, m.width-m.nameWidth()-stateColumn-sinceColumn-4*numberColumn-1)
}

func (m *Model) heading(rows int) string {
	name := "SERVICE / BACKEND"
	if first, last := m.offset+1, min(rows, m.offset+m.listHeight()); rows > m.listHeight() {
		name = fmt.Sprintf("LINES %d-%d OF %d", first, last, rows)
	}
	if m.onlyTrouble {
		name += " IN TROUBLE"
	}
	line := pad(name, m.nameWidth()) + " " + pad("STATE", stateColumn-1) + left("SINCE", sinceColumn) + left("CONNS", numberColumn) +
		left("CPS", numberColumn) + left("PPS", numberColumn) + left("BIT/S", numberColumn)
	if m.sparkWidth() >= len("PACKETS") {
		line += " PACKETS"
	}
	return strong.Render(line)
}

// line returns the line of a service or backend.
func (m *Model) line(r row) string {
	rate, conns := m.now.Rates[r.id], uint64(0)
	if r.backend != nil {
		return m.backendLine(r, rate)
	}
	for i := range r.service.Backends {
		conns += uint64(r.service.Backends[i].Active) + uint64(r.service.Backends[i].Inactive)
	}
	mark := "▾ "
	if m.folded(r.service) {
		mark = "▸ "
	}
	trouble := serviceTrouble(r.service)
	if r.service.HealthFrozen {
		mark += "FROZEN "
	}
	if r.service.Pressure != nil {
		mark += "PRESSURE "
	}
	if f := r.service.FirstPackets; f != nil && f.Flood {
		mark += "SYN FLOOD "
	}
	name := mark + text.OneLine(r.service.Name) + " " + r.service.Protocol + " " + strings.TrimPrefix(r.service.Key(), r.service.Protocol+" ")
	state := api.CountBackends(*r.service).Fraction()
	return strong.Render(pad(name, m.nameWidth())) + " " + troubleStyle[trouble].Render(pad(state, stateColumn-1+sinceColumn)) +
		m.numbers(r.id, conns, rate)
}

func (m *Model) backendLine(r row, rate api.Rate) string {
	b := r.backend
	trouble := backendTrouble(b)
	name := api.StateName(*b)
	state := troubleStyle[trouble].Render(pad(name, stateColumn-1)) + left(text.Ago(b.StateSinceS), sinceColumn)
	if len(name) > stateColumn-1 { // it needs both columns; detail has the time
		state = troubleStyle[trouble].Render(pad(name, stateColumn-1+sinceColumn))
	}
	line := pad("    "+b.Endpoint(), m.nameWidth()) + " " + state
	conns := uint64(b.Active) + uint64(b.Inactive)
	if why := api.Why(*b); trouble == broken && why != "" && rate == (api.Rate{}) {
		return line + " " + bad.Render(text.OneLine(why)) // its numbers are all 0
	}
	return line + m.numbers(r.id, conns, rate)
}

func (m *Model) numbers(id api.Rated, conns uint64, rate api.Rate) string {
	line := left(text.SI(float64(conns)), numberColumn) + left(text.SI(rate.CPS), numberColumn) +
		left(text.SI(rate.InPPS+rate.OutPPS), numberColumn) + left(text.SI(8*(rate.InBPS+rate.OutBPS)), numberColumn)
	if width := m.sparkWidth(); width > 0 {
		line += " " + quiet.Render(text.Sparkline(m.history[id], width))
	}
	return line
}

// detail returns what the columns have no space for.
func (m *Model) detail(r row) string {
	rate := m.now.Rates[r.id]
	if r.backend == nil {
		s := r.service
		line := fmt.Sprintf("%s: %s, %s, %s, in %s out %s pps",
			text.OneLine(s.Name), s.Key(), s.Mode, s.Scheduler, text.SI(rate.InPPS), text.SI(rate.OutPPS))
		if note := api.ServiceNote(*s); note != "" {
			line = fmt.Sprintf("%s: %s (%s), %s, %s, %s", text.OneLine(s.Name), api.CountBackends(*s).Fraction(), note, s.Key(), s.Mode, s.Scheduler)
		}
		if s.PersistenceS > 0 {
			line += fmt.Sprintf(", persistent %.0f s", s.PersistenceS)
		}
		if note := api.RefusedNote(*s); note != "" {
			line = text.OneLine(s.Name) + ": " + note
		}
		return quiet.Render(line)
	}
	b := r.backend
	weight := fmt.Sprint("weight ", b.Weight)
	if b.Weight != b.ConfiguredWeight {
		weight += fmt.Sprintf(" (file: %d)", b.ConfiguredWeight)
	}
	line := fmt.Sprintf("%s: %s, %s, %d active, %d inactive, in %s out %s pps",
		b.Endpoint(), b.Mode, weight, b.Active, b.Inactive, text.SI(rate.InPPS), text.SI(rate.OutPPS))
	if why := api.Why(*b); why != "" {
		line = fmt.Sprintf("%s: %s; %s", b.Endpoint(), weight, text.OneLine(why))
	}
	if b.Protected {
		line = fmt.Sprintf("%s: %s for %s; %s", b.Endpoint(), api.StateName(*b), text.Ago(b.StateSinceS), text.OneLine(api.Why(*b)))
	}
	return quiet.Render(line)
}

// footer returns a question, the filter, a notice, or the keys.
func (m *Model) footer() string {
	switch {
	case m.pending != nil:
		return shout.Render(pad(" "+m.pending.text+" y/n ", m.width))
	case m.filtering:
		return m.filter.View() + quiet.Render("  (Enter applies it, Esc clears it)")
	case m.notice != "":
		return strong.Render(text.OneLine(m.notice))
	}
	keys := "↑↓ move  d drain  e enable  / filter  t trouble  space fold  ? help  q quit"
	if m.filter.Value() != "" {
		keys = "filter: " + m.filter.Value() + " (Esc clears)  " + keys
	}
	return quiet.Render(keys)
}

// pad cuts or fills text to so many columns.
func pad(words string, columns int) string {
	words = ansi.Truncate(words, columns, "…")
	return words + strings.Repeat(" ", max(0, columns-ansi.StringWidth(words)))
}

// left is pad with the spaces in front.
func left(words string, columns int) string {
	return strings.Repeat(" ", max(0, columns-ansi.StringWidth(words))) + words
}

// spread puts one text at either end of a line.
func spread(start, end string, columns int) string {
	return start + strings.Repeat(" ", max(1, columns-ansi.StringWidth(start)-ansi.StringWidth(end))) + end
}
