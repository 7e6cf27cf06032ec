package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"sluice/engine/api"
)

var update = flag.Bool("update", false, "write the frames in testdata")

var began = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// daemon is a fake daemon with counters that grow equally every second.
type daemon struct {
	seconds  int
	services []api.Service
	told     []string
	err      error

	attention []string
	pressure  []api.Pressure
}

func newDaemon() *daemon {
	backend := func(address string, weight int, state string, since float64) api.Backend {
		return api.Backend{Address: address, Port: api.SinglePort(8080), Weight: weight, ConfiguredWeight: 1, Mode: "nat",
			State: state, StateSinceS: since, Active: 120, Inactive: 14}
	}
	dying := backend("10.0.0.12", 1, api.StateDown, 134)
	dying.LastError, dying.Active, dying.Inactive = "tcp: dial 10.0.0.12:8080: connection refused", 0, 3
	return &daemon{services: []api.Service{
		{Name: "api", Address: "198.51.100.11", Port: api.SinglePort(443), Protocol: "tcp", Mode: "dr", Scheduler: "rr",
			Backends: []api.Backend{backend("10.0.0.21", 1, api.StateUp, 7200), backend("10.0.0.22", 1, api.StateUp, 93784)}},
		{Name: "dns", Address: "2001:db8:ffff:ffff::53", Port: api.SinglePort(53), Protocol: "udp", Mode: "nat", Scheduler: "mh", PersistenceS: 300,
			Backends: []api.Backend{backend("2001:db8::11", 0, api.StateDrain, 18120), backend("2001:db8::12", 1, api.StateUp, 50)}},
		{Name: "web", Address: "198.51.100.10", Port: api.SinglePort(80), Protocol: "tcp", Mode: "nat", Scheduler: "wlc",
			Backends: []api.Backend{backend("10.0.0.11", 1, api.StateUp, 7200), dying, backend("10.0.0.13", 1, api.StateUp, 7200)}},
		{Name: "evil\x1b[2J\r\nname", Address: "198.51.100.12", Port: api.Port{First: 8000, Last: 8099}, Protocol: "tcp", Mode: "tun", Scheduler: "rr",
			Backends: []api.Backend{{Address: "10.0.0.99", Weight: 1, ConfiguredWeight: 3, Mode: "tun", State: api.StateDown, LastError: "\x1b]0;owned\a no\r\nanswer"}}},
	}}
}

func (d *daemon) List(context.Context) ([]api.Service, error) { return d.services, d.err }

func (d *daemon) Stats(context.Context) (api.Stats, error) {
	n := uint64(d.seconds)
	return api.Stats{Version: "0.1.0", UptimeS: 7200 + float64(d.seconds), Rx: 1210000 * n, Forwarded: 1200000 * n, Replied: 1000 * n,
		Drops: map[string]uint64{"no_backend": 9000 * n, "ttl_expired": 12, "short": 0},
		Workers: []api.WorkerStats{{Worker: 0, CPU: 2, BusyS: 0.72 * float64(d.seconds), RunS: 7200 + float64(d.seconds)},
			{Worker: 1, CPU: 3, BusyS: 0.95 * float64(d.seconds), RunS: 7200 + float64(d.seconds)}},
		Tables: api.TableStats{ConnectionsV4: 123456, ConnectionsV6: 10, Capacity: 1 << 20}}, d.err
}

func (d *daemon) Status(context.Context) (api.Status, error) {
	return api.Status{Attention: d.attention, Pressure: d.pressure}, d.err
}

func (d *daemon) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	b, err := d.SetWeight(ctx, r.Service, r.Backend, map[string]int{api.OverrideEnable: 1}[r.State])
	d.told = []string{fmt.Sprint(r.State, " ", r.Service, " ", r.Backend)}
	return b, err
}

func (d *daemon) SetWeight(_ context.Context, service, backend string, weight int) (api.Backend, error) {
	d.told = append(d.told, fmt.Sprint(service, " ", backend, " ", weight))
	for i := range d.services {
		for j := range d.services[i].Backends {
			if b := &d.services[i].Backends[j]; d.services[i].Name == service && b.Endpoint() == backend {
				b.Weight = weight
				b.State = map[bool]string{true: api.StateDrain, false: api.StateUp}[weight == 0]
				return *b, d.err
			}
		}
	}
	return api.Backend{}, d.err
}

// pass simulates a second: every counter grows, unevenly so that sparklines have a shape.
func (d *daemon) pass() {
	d.seconds++
	for i := range d.services {
		s := &d.services[i]
		for j := range s.Backends {
			if b := &s.Backends[j]; b.State == api.StateUp {
				n := uint64(1000*(i+1)*(j+1) + 500*(d.seconds%4))
				b.Packets, b.Bytes, b.Connections = b.Packets+n, b.Bytes+100*n, b.Connections+n/100
				s.Packets, s.Bytes, s.Connections = s.Packets+n, s.Bytes+100*n, s.Connections+n/100
				s.PacketsOut, s.BytesOut, b.PacketsOut, b.BytesOut = s.PacketsOut+n, s.BytesOut+1400*n, b.PacketsOut+n, b.BytesOut+1400*n
			}
		}
	}
}

// screen is a view and its inputs.
type screen struct {
	t      *testing.T
	model  *Model
	daemon *daemon
}

func newScreen(t *testing.T) *screen {
	d := newDaemon()
	return &screen{t, New(d, "/run/sluice/sluice.sock", time.Second), d}
}

// measure simulates seconds, with a poll after each.
func (s *screen) measure(seconds int) {
	for range seconds {
		s.daemon.pass()
		got := s.model.poll().(measured)
		got.At = began.Add(time.Duration(s.daemon.seconds) * time.Second)
		// Data that a client has must not change.
		got.Services = append([]api.Service(nil), got.Services...)
		for i := range got.Services {
			got.Services[i].Backends = append([]api.Backend(nil), got.Services[i].Backends...)
		}
		s.model.Update(got)
	}
}

// press presses keys, and runs the resulting commands.
func (s *screen) press(keys ...string) {
	for _, key := range keys {
		msg := tea.KeyPressMsg{Text: key, Code: []rune(key)[0]}
		switch key {
		case "down":
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		case "up":
			msg = tea.KeyPressMsg{Code: tea.KeyUp}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "pgdown":
			msg = tea.KeyPressMsg{Code: tea.KeyPgDown}
		}
		asked := s.model.pending != nil
		if _, cmd := s.model.Update(msg); asked && cmd != nil {
			s.model.Update(cmd())
		}
	}
}

func (s *screen) text() string {
	lines := strings.Split(ansi.Strip(s.model.View().Content), "\n")
	if len(lines) != s.model.height {
		s.t.Errorf("the frame has %d lines, the terminal %d", len(lines), s.model.height)
	}
	for i, line := range lines {
		if width := ansi.StringWidth(line); width > s.model.width {
			s.t.Errorf("line %d is %d columns wide, the terminal %d: %q", i, width, s.model.width, line)
		}
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// golden compares the frame with testdata/NAME.txt.
func (s *screen) golden(name string) {
	s.t.Helper()
	path := filepath.Join("testdata", name+".txt")
	got := s.text()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		s.t.Errorf("frame %s:\n%s\n%s", name, got, diff)
	}
}

// TestPressureFrames checks what is shown of a service under pressure, and of refused connections.
func TestPressureFrames(t *testing.T) {
	s := newScreen(t)
	p := api.Pressure{Service: "api", SinceS: 12, PerSecond: 6012, FoundFull: 72000, Displacing: 71990, Refused: 10,
		Sources: []api.Source{{Prefix: "203.0.113.0/24", Share: 0.45}}}
	s.daemon.services[0].Pressure, s.daemon.pressure = &p, []api.Pressure{p}
	s.daemon.attention = []string{"service api: new connections find no free entry"}
	s.daemon.services[1].AccessDenied = 12
	s.daemon.services[1].Limited = map[string]uint64{"source_connections": 4, "connections": 3}
	s.daemon.services[1].TableFull = 10
	s.measure(2)
	s.press("t")
	for range 6 {
		s.press("down")
	}
	s.golden("pressure")
	for range 3 {
		s.press("down")
	}
	s.golden("refused")
}

func TestFrames(t *testing.T) {
	s := newScreen(t)
	s.golden("asking")
	s.measure(1)
	s.golden("first") // there are no rates yet
	s.measure(30)
	s.golden("running")
	s.press("?")
	s.golden("help")
	s.press("q") // leaves the help, not the view
	s.press("down", "down", "down", "d")
	s.golden("question")
	s.press("n", "j", "d", "y")
	s.golden("drained")
	s.daemon.attention = []string{"web: no backend\nis up", "the last reload failed"}
	s.measure(1)
	s.golden("alarm")
	s.model.Update(tea.WindowSizeMsg{Width: 132, Height: 30})
	s.measure(100)
	s.golden("wide")
	s.model.Update(tea.WindowSizeMsg{Width: 50, Height: 12})
	s.golden("narrow")
	s.model.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	s.daemon.services[2].Backends[1].Protected = true
	s.measure(1)
	s.golden("protected")
	s.model.Update(tea.WindowSizeMsg{Width: 30, Height: 5})
	if got := ansi.Strip(s.model.View().Content); !strings.Contains(got, "too small") {
		t.Error(got)
	}
}

func TestLossAndReturnOfTheDaemon(t *testing.T) {
	s := newScreen(t)
	s.daemon.err = &api.NoDaemon{Socket: "/run/sluice/sluice.sock"}
	s.measure(1)
	s.golden("absent")
	s.daemon.err = nil
	s.measure(10)
	s.daemon.err = &api.NoDaemon{Socket: "/run/sluice/sluice.sock"}
	s.measure(75)
	s.golden("lost")
	s.daemon.err, s.daemon.seconds = nil, 0 // another process with new counters
	for i := range s.daemon.services {
		s.daemon.services[i].Packets, s.daemon.services[i].Bytes = 0, 0
	}
	s.measure(2)
	s.golden("back")
}

func TestOrders(t *testing.T) {
	s := newScreen(t)
	s.measure(2)
	told := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, s.daemon.told); diff != "" {
			t.Error(diff)
		}
		s.daemon.told = nil
	}
	s.press("d") // a service's line
	if text := s.text(); !strings.Contains(text, "drain needs a backend") {
		t.Error(text)
	}
	s.press("y")
	told()
	s.press("/", "1", "0", ".", "0", ".", "0", ".", "1", "1", "enter", "down", "d")
	for _, no := range []string{"n", "esc", "enter", "q"} {
		s.press(no)
		s.press("d")
	}
	told()
	s.press("y")
	told("drain web 10.0.0.11:8080")
	s.measure(1)
	s.press("d") // it has no connections
	s.press("y")
	told()
	s.daemon.services[2].Backends[0].ConfiguredWeight = 0
	s.measure(1)
	s.press("e", "y")
	told("web 10.0.0.11:8080 1") // enable has nothing to undo
	s.measure(1)
	s.daemon.services[2].Backends[0].ConfiguredWeight = 1
	s.measure(1)
	s.press("d", "y")
	told("drain web 10.0.0.11:8080")
	s.measure(1)
	s.press("e", "y")
	told("enable web 10.0.0.11:8080")
	s.measure(1)
	s.press("e", "y") // already enabled
	told()
	s.daemon.err = errors.New("the daemon is\nstopping")
	s.press("d", "y")
	told("drain web 10.0.0.11:8080")
	if text := s.text(); !strings.Contains(text, "drain 10.0.0.11:8080: the daemon is stopping") {
		t.Error(text)
	}
}

func TestTheLastBackendIsNotDrainedUnwarned(t *testing.T) {
	s := newScreen(t)
	s.measure(2)
	s.press("/", "d", "b", "8", ":", ":", "1", "2", "enter", "down", "d")
	if text := s.text(); !strings.Contains(text, "THE LAST of dns") {
		t.Error(text)
	}
}

func TestFilterAndToggles(t *testing.T) {
	s := newScreen(t)
	s.measure(2)
	s.press("/", "R", "E", "F", "U", "S", "E", "D")
	s.golden("filtered")
	s.press("x", "x")
	if text := s.text(); !strings.Contains(text, "no service matches the filter") {
		t.Error(text)
	}
	s.press("esc", "t")
	if text := s.text(); strings.Contains(text, "api") || !strings.Contains(text, "web") || !strings.Contains(text, "IN TROUBLE") {
		t.Error("t shows more or less than what is in trouble:\n", text)
	}
	s.press("t", "-")
	if text := s.text(); strings.Contains(text, "10.0.0") {
		t.Error("- does not fold:\n", text)
	}
	s.press("G", "enter")
	if text := s.text(); !strings.Contains(text, "10.0.0.21:8080") || strings.Contains(text, "10.0.0.11:8080") {
		t.Error("enter does not unfold the last service:\n", text)
	}
}

// TestManyServices checks that 200 services scroll, that those in trouble come first, and that the
// cursor stays on its backend when the order changes.
func TestManyServices(t *testing.T) {
	s := newScreen(t)
	s.daemon.services = nil
	for i := range 200 {
		service := api.Service{Name: fmt.Sprintf("service-%03d", i), Address: fmt.Sprintf("10.1.%d.1", i), Port: api.SinglePort(80), Protocol: "tcp"}
		for j := range 8 {
			service.Backends = append(service.Backends, api.Backend{Address: fmt.Sprintf("10.2.%d.%d", i, j+1), Port: api.SinglePort(80),
				Weight: 1, ConfiguredWeight: 1, State: api.StateUp})
		}
		s.daemon.services = append(s.daemon.services, service)
	}
	s.daemon.services[150].Backends[3].State = api.StateDown
	s.measure(3)
	s.golden("many")
	s.press("pgdown", "pgdown")
	chosen := s.model.cursor
	s.daemon.services[199].Backends[0].State = api.StateDown
	s.measure(1)
	if text := s.text(); s.model.cursor != chosen || !strings.Contains(text, strings.TrimPrefix(chosen.Service, "tcp ")) {
		t.Errorf("the cursor was on %v and is on %v:\n%s", chosen, s.model.cursor, text)
	}
	s.press("G")
	s.text()
	if s.model.cursor.Service != "tcp 10.1.198.1:80" {
		t.Error("the last line is of", s.model.cursor)
	}
	s.daemon.services = s.daemon.services[:1]
	s.measure(1)
	if text := s.text(); !strings.Contains(text, "service-000") {
		t.Error("the list that became short is empty:\n", text)
	}
	s.daemon.services = nil
	s.measure(1)
	s.press("down", "d", "enter")
	if text := s.text(); !strings.Contains(text, "no services") {
		t.Error(text)
	}
}

func TestNothingFromOutsideReachesTheTerminal(t *testing.T) {
	s := newScreen(t)
	s.measure(2)
	s.press("/", "e", "v", "i", "l", "enter", "down")
	content := s.model.View().Content
	for _, bad := range []string{"\x1b[2J", "\x1b]0;", "\a", "\r"} {
		if strings.Contains(content, bad) {
			t.Errorf("the frame has %q in it", bad)
		}
	}
}

func TestEveryKeyInEveryState(t *testing.T) {
	s := newScreen(t)
	keys := []string{"j", "k", "b", "f", "g", "G", " ", "+", "-", "t", "/", "d", "e", "?", "h", "y", "n", "x", "up", "down", "esc", "enter", "pgdown"}
	for _, first := range keys { // before the first answer
		s.press(first)
		s.text()
	}
	s.measure(2)
	for _, first := range keys {
		for _, second := range keys {
			s.press(first, second)
			s.text()
		}
		s.measure(1)
	}
}

func TestPrint(t *testing.T) {
	d := newDaemon()
	figures, err := Once(t.Context(), d, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := Print(&out, figures, 100); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"services 1/4 dead, backends 2/8 down (1 drain)", "10.0.0.22:8080", "connection refused", "drops", "SERVICE / BACKEND"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out.String(), "\x1b") || t.Failed() {
		t.Error(out.String())
	}
}
