package top

import (
	"context"
	"fmt"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	"sluice/engine/api"
)

const (
	requestTimeout = 10 * time.Second // for one request to the daemon
	manyServices   = 12               // from here on, services without problems are folded at first
	historyLen     = 240              // measurements stored for sparklines
	noticeTurns    = 4                // measurements for which a notice is shown

	// overdue is how long after the time of the next poll an answer is overdue. A daemon with a
	// worker that does not answer takes a second.
	overdue   = 1500 * time.Millisecond
	clockTick = 250 * time.Millisecond // how often it is checked
)

// Model is the state of the view. Only the program's goroutine calls its methods.
type Model struct {
	daemon   Daemon
	where    string // the daemon's socket, for display
	interval time.Duration

	width, height int

	last    Snapshot // the previous snapshot
	now     Figures
	packets []float64               // per second, all services, the newest last
	history map[api.Rated][]float64 // the same for each service and backend

	lost      error     // why there is no answer; nil: there is one
	clock     time.Time // now
	notice    string    // the latest event
	noticeFor int       // measurements until it disappears
	turn      int       // counts measurements, to rotate the alarms

	cursor       api.Rated
	cursorAt     int // its line among rows when it was last shown
	offset       int // first line shown
	foldedByHand map[string]bool
	onlyTrouble  bool
	filter       textinput.Model
	filtering    bool
	pending      *action // waiting for confirmation
	help         bool
}

// action is a change of a backend.
type action struct {
	id      api.Rated
	service string // name
	weight  int    // to set, where enable has nothing to undo
	verb    string // api.OverrideDrain or api.OverrideEnable
	text    string // the question
}

// New returns a view of the daemon that polls it once per interval.
func New(daemon Daemon, where string, interval time.Duration) *Model {
	filter := textinput.New()
	filter.Prompt = "filter: "
	return &Model{daemon: daemon, where: where, interval: interval, width: 80, height: 24,
		history: map[api.Rated][]float64{}, foldedByHand: map[string]bool{}, filter: filter}
}

// measured is the answer to a poll.
type measured struct {
	Snapshot
	err error
}

// performed is the result of an action.
type performed struct {
	action
	backend api.Backend
	err     error
}

type pollNow struct{}

// clockTicked is the time.
type clockTicked time.Time

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.poll, tickClock()) }

func tickClock() tea.Cmd {
	return tea.Tick(clockTick, func(now time.Time) tea.Msg { return clockTicked(now) })
}

// silent reports whether there is no answer, or none yet although it is overdue.
func (m *Model) silent() bool {
	return m.lost != nil || m.clock.Sub(m.last.At) > m.interval+overdue
}

func (m *Model) poll() tea.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	s, err := ReadSnapshot(ctx, m.daemon)
	return measured{s, err}
}

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case measured:
		m.receive(msg)
		return m, tea.Tick(max(0, m.interval-time.Since(msg.At)), func(time.Time) tea.Msg { return pollNow{} })
	case pollNow:
		return m, m.poll
	case clockTicked:
		m.clock = time.Time(msg)
		return m, tickClock()
	case performed:
		m.say("%s: weight %d, state %s", msg.id.Backend, msg.backend.Weight, api.StateName(msg.backend))
		if msg.backend.Note != "" {
			m.say("%s: weight %d: %s", msg.id.Backend, msg.backend.Weight, msg.backend.Note)
		}
		if msg.err != nil {
			m.say("%s %s: %v", msg.verb, msg.id.Backend, msg.err)
		}
	case tea.KeyPressMsg:
		return m, m.key(msg)
	case tea.PasteMsg:
		if m.filtering {
			var cmd tea.Cmd
			m.filter, cmd = m.filter.Update(msg)
			return m, cmd
		}
	}
	return m, nil
}

// receive processes a measurement.
func (m *Model) receive(got measured) {
	m.turn++
	if m.noticeFor--; m.noticeFor <= 0 {
		m.notice = ""
	}
	if got.err != nil {
		m.lost = got.err
		if got.At.After(m.clock) {
			m.clock = got.At
		}
		return
	}
	silent := m.silent()
	m.clock = got.At
	m.now = Compare(m.last, got.Snapshot)
	switch {
	case m.now.Restarted:
		m.say("another daemon answers: its counters start at 0")
	case silent && !m.last.At.IsZero():
		m.say("the daemon answers again")
	}
	m.lost = nil
	first := m.last.At.IsZero() || m.now.Restarted
	m.last = got.Snapshot
	if first {
		return // there are no rates yet
	}
	m.packets = remember(m.packets, m.now.Rx)
	fresh := make(map[api.Rated][]float64, len(m.now.Rates)) // removed ones are dropped
	for id, r := range m.now.Rates {
		fresh[id] = remember(m.history[id], r.InPPS+r.OutPPS)
	}
	m.history = fresh
}

func remember(values []float64, v float64) []float64 {
	if len(values) == historyLen {
		values = values[:copy(values, values[1:])]
	}
	return append(values, v)
}

func (m *Model) say(format string, args ...any) {
	m.notice, m.noticeFor = fmt.Sprintf(format, args...), noticeTurns
}

// ask prepares an action for the backend under the cursor and waits for confirmation.
func (m *Model) ask(verb string) {
	rows := m.rows()
	if len(rows) == 0 {
		return
	}
	r := rows[m.place(rows)]
	if r.backend == nil {
		m.say("%s needs a backend: select its line", verb)
		return
	}
	b := r.backend
	o := action{id: r.id, service: r.service.Name, verb: verb}
	if verb == "enable" {
		if b.Weight > 0 {
			m.say("%s already has weight %d", r.id.Backend, b.Weight)
			return
		}
		o.text = fmt.Sprintf("enable %s?", r.id.Backend)
		if b.ConfiguredWeight == 0 {
			o.weight, o.text = 1, fmt.Sprintf("enable %s with weight 1? The file has 0.", r.id.Backend)
		}
	} else {
		if b.Weight == 0 {
			m.say("%s already has weight 0", r.id.Backend)
			return
		}
		o.text = fmt.Sprintf("drain %s? %d active connections continue.", r.id.Backend, b.Active)
		if acceptsNew(b) && usable(r.service) == 1 {
			o.text = fmt.Sprintf("drain %s, THE LAST of %s that takes new connections?", r.id.Backend, r.service.Name)
		}
	}
	m.pending = &o
}

// perform executes the pending action.
func (m *Model) perform() tea.Cmd {
	o := *m.pending
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		done := performed{action: o}
		if o.weight > 0 {
			done.backend, done.err = m.daemon.SetWeight(ctx, o.service, o.id.Backend, o.weight)
		} else {
			done.backend, done.err = m.daemon.Override(ctx, api.OverrideRequest{Service: o.service, Backend: o.id.Backend, State: o.verb})
		}
		return done
	}
}
