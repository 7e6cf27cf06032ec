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
	patience     = 10 * time.Second // for one question to the daemon
	manyServices = 12               // from here on, those that are well are folded at first
	historyLen   = 240              // measurements kept for sparklines
	noticeTurns  = 4                // measurements for which a notice stays
)

// Model is the state of the view. All methods are called by the program's one goroutine.
type Model struct {
	daemon   Daemon
	where    string // the daemon's socket, for people
	interval time.Duration

	width, height int

	last    Snapshot // to compare the next one with
	now     Figures
	packets []float64               // per second, all services, the newest last
	history map[api.Rated][]float64 // the same for each service and backend

	lost      error     // why there is no answer; nil: there is
	lostSince time.Time // when the first question had none
	notice    string    // what just happened
	noticeFor int       // measurements until it goes
	turn      int       // counts measurements, to show one alarm after the other

	cursor       api.Rated
	cursorAt     int // its line among rows when it was last shown
	offset       int // first line shown
	foldedByHand map[string]bool
	onlyTrouble  bool
	filter       textinput.Model
	filtering    bool
	pending      *order // waits for a yes
	help         bool
}

// order is a change of what a backend gets.
type order struct {
	id      api.Rated
	service string // name
	weight  int    // to set, where there is nothing that enable could undo
	verb    string // api.OverrideDrain or api.OverrideEnable
	text    string // the question
}

// New makes a view of the daemon that polls it once per interval.
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

// obeyed is the answer to an order.
type obeyed struct {
	order
	backend api.Backend
	err     error
}

type pollNow struct{}

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return m.poll }

func (m *Model) poll() tea.Msg {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := Take(ctx, m.daemon)
	return measured{s, err}
}

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case measured:
		m.take(msg)
		return m, tea.Tick(max(0, m.interval-time.Since(msg.At)), func(time.Time) tea.Msg { return pollNow{} })
	case pollNow:
		return m, m.poll
	case obeyed:
		m.say("%s: weight %d, state %s", msg.id.Backend, msg.backend.Weight, msg.backend.State)
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

// take works a measurement in.
func (m *Model) take(got measured) {
	m.turn++
	if m.noticeFor--; m.noticeFor <= 0 {
		m.notice = ""
	}
	if got.err != nil {
		if m.lost == nil {
			m.lostSince = got.At
		}
		m.lost = got.err
		m.now.At = got.At // for how long nobody has answered
		return
	}
	m.now = Compare(m.last, got.Snapshot)
	switch {
	case m.now.Restarted:
		m.say("another daemon answers: its counters begin anew")
	case m.lost != nil && !m.last.At.IsZero():
		m.say("the daemon answers again")
	}
	m.lost = nil
	first := m.last.At.IsZero() || m.now.Restarted
	m.last = got.Snapshot
	if first {
		return // nothing is per second yet
	}
	m.packets = remember(m.packets, m.now.Rx)
	fresh := make(map[api.Rated][]float64, len(m.now.Rates)) // those that left the configuration are forgotten
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

// ask prepares an order for the backend under the cursor and waits for a yes.
func (m *Model) ask(verb string) {
	rows := m.rows()
	if len(rows) == 0 {
		return
	}
	r := rows[m.place(rows)]
	if r.backend == nil {
		m.say("%s is for one backend: choose its line", verb)
		return
	}
	b := r.backend
	o := order{id: r.id, service: r.service.Name, verb: verb}
	if verb == "enable" {
		if b.Weight > 0 {
			m.say("%s has weight %d already", r.id.Backend, b.Weight)
			return
		}
		o.text = fmt.Sprintf("enable %s?", r.id.Backend)
		if b.ConfiguredWeight == 0 {
			o.weight, o.text = 1, fmt.Sprintf("enable %s with weight 1? The file has 0.", r.id.Backend)
		}
	} else {
		if b.Weight == 0 {
			m.say("%s has weight 0 already", r.id.Backend)
			return
		}
		o.text = fmt.Sprintf("drain %s? %d active connections go on.", r.id.Backend, b.Active)
		if takesNew(b) && usable(r.service) == 1 {
			o.text = fmt.Sprintf("drain %s, THE LAST of %s that takes connections?", r.id.Backend, r.service.Name)
		}
	}
	m.pending = &o
}

// obey carries the pending order out.
func (m *Model) obey() tea.Cmd {
	o := *m.pending
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		done := obeyed{order: o}
		if o.weight > 0 {
			done.backend, done.err = m.daemon.SetWeight(ctx, o.service, o.id.Backend, o.weight)
		} else {
			done.backend, done.err = m.daemon.Override(ctx, api.OverrideRequest{Service: o.service, Backend: o.id.Backend, State: o.verb})
		}
		return done
	}
}
