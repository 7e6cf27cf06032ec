package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// step is one segment of a connection, from the client (in) or the backend (out), or the answer to
// the RST probe that follows a RST (gone), and where it leads: IPVS's state, and the seconds that
// it lives from then on. A timeout of 0 says that the timer is not restarted.
type step struct {
	from    string
	flags   uint8
	state   string
	timeout uint32
	active  bool
}

// walks are connections from begin to end, as ip_vs_proto_tcp.c sees them, but for the differences
// that conn/state.go names.
var walks = []struct {
	name  string
	mode  service.Mode
	steps []step
}{
	{"client closes", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", syn, "SYN_RECV", 60, true}, // again
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", ack | 8, "ESTABLISHED", 900, true},
		{"out", ack | 8, "ESTABLISHED", 900, true},
		{"in", fin | ack, "ESTABLISHED", 900, true},
		{"out", ack, "ESTABLISHED", 900, true},
		{"out", fin | ack, "TIME_WAIT", 120, false},
		{"in", ack, "TIME_WAIT", 120, false},
	}},
	{"backend closes", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"out", fin | ack, "FIN_WAIT", 120, false},
		{"in", ack, "FIN_WAIT", 120, false},
		{"in", fin | ack, "TIME_WAIT", 120, false},
		{"out", ack, "TIME_WAIT", 120, false},
	}},
	{"backend refuses", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"out", rst | ack, "CLOSE", 10, false},
	}},
	{"client resets", service.FullNAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", rst, "ESTABLISHED", 0, true},
		{"gone", 0, "CLOSE", 10, false},
	}},
	{"backend resets", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"out", rst, "ESTABLISHED", 0, true},
		{"gone", 0, "CLOSE", 10, false},
	}},
	{"client closes before the SYN-ACK arrives", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", fin | ack, "ESTABLISHED", 900, true},
		{"out", fin | ack, "TIME_WAIT", 120, false},
	}},
	{"SYN on a connection that the backend closes", service.FullNAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"out", fin | ack, "FIN_WAIT", 120, false},
		{"in", syn, "FIN_WAIT", 120, false},
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
	}},
	{"reset before anything", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", rst, "SYN_RECV", 60, true}, // as IPVS: perhaps forged
		{"in", ack, "ESTABLISHED", 900, true},
	}},
	{"the backend still knows the port", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"out", ack, "SYN_RECV", 60, true}, // what do you want?
		{"in", rst, "SYN_RECV", 60, true},
		{"in", syn, "SYN_RECV", 60, true},
		{"out", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
	}},
	{"reset wins over all, SYN over FIN", service.NAT, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", fin | rst | ack, "ESTABLISHED", 0, true},
		{"gone", 0, "CLOSE", 10, false},
	}},
	{"one side only", service.DR, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", fin | ack, "FIN_WAIT", 120, false},
		{"in", noData, "FIN_WAIT", 120, false},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", fin | ack, "FIN_WAIT", 120, false},
		{"in", rst, "FIN_WAIT", 0, false},
		{"gone", 0, "CLOSE", 10, false},
	}},
	{"one side only, in a tunnel", service.TUN, []step{
		{"in", syn, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
		{"in", rst, "ESTABLISHED", 0, true},
		{"gone", 0, "CLOSE", 10, false},
		{"in", noData, "ESTABLISHED", 900, true},
	}},
	{"opened by SYN ACK", service.NAT, []step{
		{"in", syn | ack, "SYN_RECV", 60, true},
		{"in", ack, "ESTABLISHED", 900, true},
	}},
}

// noData are the flags of an ACK without payload; other segments have some.
const noData = ack | 0x80

// TestStates follows connections through their states. After every segment the state and the
// remaining time, to the millisecond, are those of IPVS, and the connection counts as active or
// inactive as in IPVS.
func TestStates(t *testing.T) {
	for _, walk := range walks {
		both(t, func(t *testing.T, client, vip string) {
			local, host := "10.0.0.2:1024", "10.0.0.11:8080"
			if vip == vip6 {
				local, host = "[2001:db8:b::2]:1024", "[2001:db8:a::11]:8080"
			}
			w := newWorld(t)
			w.sources = []string{packettest.Addr(local).String()}
			w.configure(svc{vip: vip, mode: walk.mode, silent: true, backends: []backend{{host: 11, port: 8080}}})
			from := client
			if walk.mode == service.FullNAT {
				from = local
			}
			for i, s := range walk.steps {
				w.now += 777
				expires := w.now + s.timeout*1000
				if s.timeout == 0 {
					expires = w.only().Expires
				}
				p := packettest.TCP(client, port(vip, "80"))
				if s.from == "out" {
					p = packettest.TCP(host, from)
				}
				if p = p.Flags(s.flags &^ 0x80); s.flags&0x80 != 0 {
					p = p.Payload(nil)
				}
				switch s.from {
				case "in":
					w.ends(w.in(p), "forward")
				case "out":
					w.ends(w.out(p), "forward")
				default:
					w.confirmRST()
				}
				c := w.only()
				if c.State.String() != s.state || c.Expires != expires {
					t.Fatalf("%s, step %d: %s with %d ms left, want %s with %d", walk.name, i, c.State, c.Expires-w.now, s.state, expires-w.now)
				}
				if l := w.loads.Of(1); (l.Active == 1) != s.active || l.Active+l.Inactive != 1 {
					t.Errorf("%s, step %d: %+v", walk.name, i, l)
				}
			}
			w.expires(walk.steps[len(walk.steps)-1].timeout * 1000)
		})
	}
}

// sweepMs is how long a sweep of the whole table may take, and a second more for what hangs on
// connections.
const sweepMs = 9_000

// expires checks that the one connection is there until its time is over, dead then, and swept a
// little later.
func (w *world) expires(ms uint32) {
	w.t.Helper()
	w.pass(ms - 1)
	w.only()
	w.pass(1)
	if n := len(w.entries(0, 4)) + len(w.entries(0, 6)); n != 0 {
		w.t.Error("the connection is not over")
	}
	w.pass(sweepMs)
	if n := w.sum(); n.ConnClosed != 1 {
		w.t.Errorf("the connection is still there: %+v", n)
	}
	if l := w.loads.Of(1); l.Active+l.Inactive != 0 {
		w.t.Errorf("%+v", l)
	}
}

// TestUDPTimeout: UDP has one state with one timeout, which packets of either direction restart.
func TestUDPTimeout(t *testing.T) {
	w := newWorld(t, svc{proto: service.UDP, backends: []backend{{host: 11, port: 53}}})
	w.ends(w.in(packettest.UDP(client4, web4)), "forward")
	w.pass(299_999)
	w.ends(w.out(packettest.UDP("10.0.0.11:53", client4)), "forward")
	w.pass(299_999)
	w.ends(w.in(packettest.UDP(client4, web4)), "forward")
	if c := w.only(); c.State != conn.UDP || c.Flags&conn.SeenReply == 0 {
		t.Errorf("%+v", c)
	}
	if n := w.sum(); n.ConnOpened != 1 {
		t.Errorf("%+v", n)
	}
	w.expires(300_000)
}

// TestExpiryOnLookup: at its timeout a connection is not used any more, even without a sweep. The
// client's next packet needs a new one, the backend's next packet has none.
func TestExpiryOnLookup(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprint(early), func(t *testing.T) {
			w := newWorld(t, silent(nat()))
			w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
			w.ends(w.in(packettest.TCP(client4, web4)), "forward")
			want, wantOut := "reply", "reply"
			w.now += 900_000
			if early {
				w.now--
				want, wantOut = "forward", "forward"
			}
			w.ends(w.out(packettest.TCP("10.0.0.11:8080", client4)), wantOut)
			w.ends(w.in(packettest.TCP(client4, web4)), want)
			w.sum()
		})
	}
}

// TestClockWraps: the count of milliseconds wraps after 49 days; then no connection expires early
// or late (L03).
func TestClockWraps(t *testing.T) {
	for _, before := range []uint32{1, 1000, 899_999, 900_000} {
		w := newWorld(t, silent(nat()))
		w.now = -before
		w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward")
		w.ends(w.in(packettest.TCP(client4, web4)), "forward")
		w.expires(900_000)
		for range 1500 { // answers are limited as ever
			w.in(packettest.TCP(client4, web4))
		}
		if n := w.sum(); n.Replied != 1000 {
			t.Errorf("%d ms before the wrap: %d answers", before, n.Replied)
		}
	}
}

// TestReuse: a SYN on a closed connection is a new connection, which is scheduled at once; on an
// open one it is not (IPVS's conn_reuse_mode 1).
func TestReuse(t *testing.T) {
	open := []step{{"in", syn, "", 0, true}, {"out", syn | ack, "", 0, true}, {"in", ack, "", 0, true}}
	for _, test := range []struct {
		name  string
		mode  service.Mode
		steps []step
		again uint8
		moves bool
	}{
		{"TIME_WAIT", service.NAT, append(open[:3:3], step{from: "in", flags: fin | ack}, step{from: "out", flags: fin | ack}), syn, true},
		{"CLOSE", service.NAT, append(open[:3:3], step{from: "in", flags: rst}, step{from: "gone"}), syn, true},
		{"refused", service.NAT, append(open[:1:1], step{from: "out", flags: rst | ack}), syn, true},
		{"CLOSE in dr", service.DR, []step{open[0], open[2], {from: "in", flags: rst}, {from: "gone"}}, syn, true},
		{"CLOSE in fullnat", service.FullNAT, []step{open[0], open[2], {from: "in", flags: rst}, {from: "gone"}}, syn, true},
		{"CLOSE, SYN ACK", service.NAT, append(open[:3:3], step{from: "in", flags: rst}, step{from: "gone"}), syn | ack, false},
		{"RST", service.NAT, append(open[:3:3], step{from: "in", flags: rst}), syn, false},
		{"RST in dr", service.DR, []step{open[0], open[2], {from: "in", flags: rst}}, syn, false},
		{"RST in fullnat", service.FullNAT, []step{open[0], open[2], {from: "in", flags: rst}}, syn, false},
		{"RST of the backend", service.NAT, append(open[:3:3], step{from: "out", flags: rst}), syn, false},
		{"SYN, FIN in dr", service.DR, []step{open[0], {from: "in", flags: fin | ack}}, syn, false},
		{"ESTABLISHED", service.NAT, open, syn, false},
		{"SYN_RECV", service.NAT, open[:1], syn, false},
		{"client's FIN", service.NAT, append(open[:3:3], step{from: "in", flags: fin | ack}), syn, false},
		{"FIN_WAIT in dr", service.DR, []step{open[0], open[2], {from: "in", flags: fin | ack}}, syn, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, svc{mode: test.mode, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}})
			for _, s := range test.steps {
				switch s.from {
				case "in":
					w.ends(w.in(packettest.TCP(client4, web4).Flags(s.flags)), "forward")
				case "out":
					w.ends(w.out(packettest.TCP("10.0.0.11:80", client4).Flags(s.flags)), "forward")
				default:
					w.confirmRST()
				}
			}
			w.now += 5000
			w.ends(w.in(packettest.TCP(client4, web4).Flags(test.again)), "forward")
			c := w.only()
			if moved := c.Backend == 2; moved != test.moves {
				t.Errorf("%+v", c)
			}
			if n := w.sum(); test.moves != (n.ConnOpened == 2) {
				t.Errorf("%+v", n)
			}
		})
	}
}

// TestReuseWithoutBackend: if no backend takes the new connection, the old one ends all the same.
func TestReuseWithoutBackend(t *testing.T) {
	w := newWorld(t, nat())
	for _, flags := range []uint8{syn, ack, rst} {
		w.ends(w.in(packettest.TCP(client4, web4).Flags(flags)), "forward")
	}
	w.confirmRST()
	drained := nat()
	for i := range drained.backends {
		drained.backends[i].drain = true
	}
	w.configure(drained)
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "reply")
	w.sum()
}

// TestFullTableRecovers: when connections expire, new ones are accepted again (O03).
func TestFullTableRecovers(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.DR} {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			s := svc{mode: mode, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}, {host: 13, port: 80}}}
			w.ends(w.fill(s), map[bool]string{true: "table_full", false: "forward"}[mode.RepliesThroughUs()])
			n := w.sum()
			if n.ConnOpened != capacity {
				t.Errorf("%d connections", n.ConnOpened)
			}
			// Those that there are go on.
			w.ends(w.in(packettest.TCP("192.0.2.5:40000", web4)), "forward")
			w.now += 60_000
			for n := range 50 {
				w.ends(w.in(packettest.TCP(fmt.Sprintf("192.0.77.7:%d", 1000+n), web4).Flags(syn)), "forward")
			}
			w.sum()
			w.pass(900_000)
			if n := w.sum(); n.ConnOpened != n.ConnClosed || w.procs[0].Table(4).Len() != 0 {
				t.Errorf("%+v, %d entries are left", n, w.procs[0].Table(4).Len())
			}
		})
	}
}
