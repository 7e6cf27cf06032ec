package top

import (
	tea "charm.land/bubbletea/v2"
)

// keyHelp is the help that ? shows.
var keyHelp = []struct{ keys, does string }{
	{"↑ ↓  k j", "one line up or down"},
	{"PgUp PgDn  b f", "one page"},
	{"Home End  g G", "first or last line"},
	{"space  enter", "fold or unfold the backends of a service"},
	{"+  -", "unfold or fold all services"},
	{"t", "only services with problems, or all"},
	{"/", "filter by name, address, state or error; Esc clears"},
	{"d", "drain the backend: existing connections continue, no new ones"},
	{"e", "enable it again"},
	{"q", "quit"},
}

// key handles a key.
func (m *Model) key(msg tea.KeyPressMsg) tea.Cmd {
	name := msg.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case m.pending != nil:
		return m.answer(name)
	case m.filtering:
		return m.edit(msg)
	case m.help:
		m.help = false
		return nil
	}
	m.notice = ""
	switch name {
	case "q":
		return tea.Quit
	case "?", "h":
		m.help = true
	case "/":
		m.filtering = true
		return m.filter.Focus()
	case "esc":
		m.filter.Reset()
	case "t":
		m.onlyTrouble = !m.onlyTrouble
	case "d":
		m.ask("drain")
	case "e":
		m.ask("enable")
	default:
		m.move(name)
	}
	return nil
}

// answer accepts only y as a confirmation: a change must not happen by accident.
func (m *Model) answer(name string) (cmd tea.Cmd) {
	if name == "y" || name == "Y" {
		cmd = m.perform()
	} else {
		m.say("nothing changed")
	}
	m.pending = nil
	return cmd
}

// edit changes the filter.
func (m *Model) edit(msg tea.KeyPressMsg) (cmd tea.Cmd) {
	switch msg.String() {
	case "esc":
		m.filter.Reset()
		fallthrough
	case "enter":
		m.filtering = false
		m.filter.Blur()
	case "up", "down":
		m.move(msg.String())
	default:
		m.filter, cmd = m.filter.Update(msg)
	}
	return cmd
}

// move moves the cursor, or folds the service under it.
func (m *Model) move(name string) {
	rows := m.rows()
	if len(rows) == 0 {
		return
	}
	at, page := m.place(rows), max(1, m.listHeight()-1)
	switch name {
	case "up", "k":
		at--
	case "down", "j":
		at++
	case "pgup", "b", "ctrl+b":
		at -= page
	case "pgdown", "f", "ctrl+f":
		at += page
	case "home", "g":
		at = 0
	case "end", "G":
		at = len(rows) - 1
	case "space", "enter":
		s := rows[at].service
		m.foldedByHand[s.Key()] = !m.folded(s)
		m.cursor.Backend = ""
		m.cursor.Service = s.Key()
		return
	case "+", "-":
		for i := range m.now.Services {
			m.foldedByHand[m.now.Services[i].Key()] = name == "-"
		}
		m.cursor = rows[at].id
		if name == "-" {
			m.cursor.Backend = ""
		}
		return
	}
	m.cursorAt = max(0, min(at, len(rows)-1))
	m.cursor = rows[m.cursorAt].id
}
