package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// sticky is nat with persistence of 300 seconds.
func sticky() svc { s := nat(); s.persistMs = 300_000; return s }

// visit opens a connection from a port of the client's host and gives the backend's number.
func (w *world) visit(host string, p int, web string) uint32 {
	w.t.Helper()
	o := w.in(packettest.TCP(port(host, fmt.Sprint(p)), web).Flags(syn))
	w.ends(o, "forward")
	return uint32(o.frame()[5]) - 10 // of its MAC address
}

// TestPersistence: a client's connections go to one backend until the persistence time has passed
// since the last one.
func TestPersistence(t *testing.T) {
	w := newWorld(t, sticky())
	if a, b := w.visit("192.0.2.1", 1, web4), w.visit("192.0.2.2", 1, web4); a != 1 || b != 2 {
		t.Fatalf("%d, %d", a, b)
	}
	for p := range 5 {
		w.pass(250_000) // each connection restarts the time
		if a, b := w.visit("192.0.2.1", 10+p, web4), w.visit("192.0.2.2", 10+p, web4); a != 1 || b != 2 {
			t.Errorf("after %d times 250 s: %d, %d", p+1, a, b)
		}
	}
	w.pass(299_999)
	if got := w.visit("192.0.2.1", 20, web4); got != 1 {
		t.Errorf("a millisecond before the end: %d", got)
	}
	w.pass(300_000)
	if got := w.visit("192.0.2.2", 21, web4); got == 2 { // rr goes on with 3
		t.Errorf("the template outlived its time: %d", got)
	}
	w.sum()
}

// TestTemplateOutlives: while it has connections, a template is extended in steps of 60 seconds.
func TestTemplateOutlives(t *testing.T) {
	w := newWorld(t, sticky())
	if got := w.visit("192.0.2.1", 1, web4); got != 1 {
		t.Fatal(got)
	}
	w.ends(w.in(packettest.TCP("192.0.2.1:1", web4)), "forward") // established: 900 s
	w.pass(899_000)
	if got := w.visit("192.0.2.1", 2, web4); got != 1 {
		t.Errorf("after 899 s: %d", got)
	}
	// The second one restarted the template: 300 s. It ends itself after 60 s, the first after 900
	// s.
	w.pass(301_000)
	if n := w.sum(); n.ConnClosed != 2 {
		t.Errorf("%+v", n)
	}
	w.pass(60_000)
	if live := w.procs[0].Table(4).Len(); live != 0 {
		t.Errorf("%d entries are left", live)
	}
	if got := w.visit("192.0.2.1", 3, web4); got != 2 {
		t.Errorf("with the template gone: %d", got)
	}
}

// TestTemplateFollows: without a new connection, a template expires at most a minute after its last
// connection.
func TestTemplateFollows(t *testing.T) {
	w := newWorld(t, sticky())
	w.visit("192.0.2.1", 1, web4)
	w.ends(w.in(packettest.TCP("192.0.2.1:1", web4)), "forward")
	w.pass(899_999)
	if live := w.procs[0].Table(4).Len(); live != 2 {
		t.Errorf("%d entries, want connection and template", live)
	}
	w.pass(60_000 + 2*sweepMs)
	if live := w.procs[0].Table(4).Len(); live != 0 {
		t.Errorf("%d entries are left", live)
	}
	w.sum()
}

// TestTemplateAndWeight: a drained backend keeps its clients; one that is down or removed loses
// them.
func TestTemplateAndWeight(t *testing.T) {
	for _, test := range []struct {
		name  string
		set   func(b *backend)
		stays bool
	}{
		{"drained", func(b *backend) { b.drain = true }, true},
		{"down", func(b *backend) { b.down = true }, false},
		{"gone", func(b *backend) { b.gone = true }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, sticky())
			w.visit("192.0.2.1", 1, web4)
			s := sticky()
			test.set(&s.backends[0])
			w.configure(s)
			second, third := w.visit("192.0.2.1", 2, web4), w.visit("192.0.2.1", 3, web4)
			if (second == 1) != test.stays || third != second {
				t.Errorf("%d, then %d", second, third)
			}
			w.sum()
		})
	}
}

// TestTemplatePerPort: each service of one port has templates of its own; a service of many ports
// has one per client.
func TestTemplatePerPort(t *testing.T) {
	w := newWorld(t, sticky(), sticky())
	one, all := sticky(), sticky()
	one.ports, all.ports, all.vip = service.Ports{First: 81, Last: 81}, service.AnyPort, "198.51.100.11"
	for i := range all.backends {
		all.backends[i].port = 0
	}
	w.configure(sticky(), one, all)
	if a, b := w.visit("192.0.2.1", 1, web4), w.visit("192.0.2.1", 2, web4); a != 1 || b != 1 {
		t.Errorf("%d, %d", a, b)
	}
	w.visit("192.0.2.9", 9, vip4+":81")
	if a := w.visit("192.0.2.1", 1, vip4+":81"); a != 2 {
		t.Errorf("the other service sends the client to %d", a)
	}
	first := w.visit("192.0.2.1", 1, "198.51.100.11:443")
	for p := 444; p < 450; p++ {
		if got := w.visit("192.0.2.1", p, fmt.Sprintf("198.51.100.11:%d", p)); got != first {
			t.Errorf("port %d: %d, first %d", p, got, first)
		}
	}
	w.sum()
}

// TestReuseWithTemplate: a reused connection of a client with a template is not scheduled again,
// because the template binds it to the same backend.
func TestReuseWithTemplate(t *testing.T) {
	w := newWorld(t, sticky())
	for _, flags := range []uint8{syn, ack, rst, syn} {
		w.ends(w.in(packettest.TCP(client4, web4).Flags(flags)), "forward")
	}
	if c := w.only(); c.Backend != 1 {
		t.Errorf("%+v", c)
	}
	if n := w.sum(); n.ConnOpened != 1 {
		t.Errorf("%+v", n)
	}
}

// TestTemplateSlots: a template takes a slot of the table but is not counted as a connection.
// Without a slot for the template, the connection is opened all the same.
func TestTemplateSlots(t *testing.T) {
	w := newWorlds(t, 1, 5, sticky())
	for n := range 3 {
		w.visit(fmt.Sprintf("192.0.2.%d", 1+n), 1, web4)
	}
	if n, live := w.sum(), w.procs[0].Table(4).Len(); n.ConnOpened != 3 || live != 5 {
		t.Errorf("%d connections, %d entries", n.ConnOpened, live)
	}
	w.pass(420_000)
	if live := w.procs[0].Table(4).Len(); live != 0 {
		t.Errorf("%d entries are left", live)
	}
	w.sum()
}

// TestTemplateOfMany: a template with more connections than 16 bits can count is removed after the
// last of them and not before.
func TestTemplateOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 65,546 connections")
	}
	t.Parallel()
	const flows = 1<<16 + 10
	s := svc{ports: service.AnyPort, proto: service.UDP, persistMs: 60_000, backends: []backend{{host: 11}, {host: 12}}}
	w := newWorlds(t, 1, 2*flows, s)
	packet := func(n int) packettest.Packet {
		return packettest.UDP(fmt.Sprintf("192.0.2.1:%d", 1000+n/2), fmt.Sprintf("%s:%d", vip4, 80+n%2))
	}
	for n := range flows {
		w.ends(w.in(packet(n)), "forward")
	}
	w.pass(200_000)
	w.ends(w.in(packet(0)), "forward")
	w.pass(200_000)
	if live := w.procs[0].Table(4).Len(); live != 2 {
		t.Errorf("%d entries, want one connection and its template", live)
	}
	w.pass(100_000 + 60_000 + 2*sweepMs)
	if live := w.procs[0].Table(4).Len(); live != 0 {
		t.Errorf("%d entries are left", live)
	}
	w.sum()
}
