package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// TestRepeatedSYN: a client that gets no SYN-ACK sends its SYN again, and the packets of a flow may
// come by any queue, as on veth. Each connection has one backend and one SNAT port all the same,
// and no end gets an RST.
func TestRepeatedSYN(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 2
	}
	for _, mode := range []string{"nat", "fullnat", "tun", "dr"} {
		for seed := range seeds {
			t.Run(fmt.Sprint(mode, " ", seed), func(t *testing.T) {
				t.Parallel()
				runRepeatedSYN(t, mode, rand.New(rand.NewPCG(seed, 11)))
			})
		}
	}
}

// synSender is a client of TestRepeatedSYN.
type synSender struct {
	backend string // where its SYN went, with the address and port that the backend sees
	syns    int    // that were forwarded
}

func runRepeatedSYN(t *testing.T, mode string, r *rand.Rand) {
	const flows, queues, workers = 400, 4, 2
	lab := enginetest.New(t, queues, queues)
	s := svc{mode: mode, sched: []string{"rr", "wlc"}[r.IntN(2)], backends: []string{"10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80"}}
	if mode == "fullnat" {
		s.extra = `source = ["10.0.0.2"]`
	}
	lab.Start(workers, config(s))
	clients := make(map[string]*synSender)
	send := func(n int, flags uint8) {
		lab.Inject(enginetest.Clients, r.IntN(queues), opening(n).Flags(flags).Frame())
	}
	sent := 0
	for n := range flows {
		send(n, syn)
		// One SYN in ten comes again: at once, or after others.
		for again := n - r.IntN(20); again >= 0 && r.IntN(10) == 0; again = n - r.IntN(20) {
			send(again, syn)
			sent++
		}
	}
	sent += flows
	lab.Quiet()
	for _, out := range lab.Collect() {
		where, from := placeOf(t, out.Frame)
		if mode == "fullnat" { // the backend does not see the client
			from = where
		}
		if clients[from] == nil {
			clients[from] = &synSender{backend: where}
		}
		c := clients[from]
		if c.syns++; c.backend != where {
			t.Errorf("%s went to %s and to %s", from, c.backend, where)
		}
	}
	if len(clients) != flows {
		t.Errorf("the backends saw %d connections of %d", len(clients), flows)
	}
	for n := range flows {
		send(n, ack)
	}
	lab.Quiet()
	for _, out := range lab.Collect() {
		if where, from := placeOf(t, out.Frame); mode != "fullnat" && clients[from].backend != where {
			t.Errorf("%s opened at %s and went on at %s", from, clients[from].backend, where)
		}
	}
	stats := lab.Stats()
	if stats.Forwarded != uint64(sent+flows) || stats.Replied != 0 || stats.Tables.ConnectionsV4 != flows {
		t.Errorf("forwarded %d of %d, %d connections of %d, %d resets; drops %v",
			stats.Forwarded, sent+flows, stats.Tables.ConnectionsV4, flows, stats.Replied, nonzero(stats.Drops))
	}
}

// placeOf returns the backend that a frame goes to, and the address and port that it comes from
// there. In fullnat the place has the SNAT port, too.
func placeOf(t *testing.T, frame []byte) (where, from string) {
	t.Helper()
	inner := frame
	if len(frame) > 14+20 && frame[14+9] == 4 { // IP in IP
		inner = append(append([]byte(nil), frame[:14]...), frame[14+20:]...)
	}
	m := parse(t, inner)
	from = at(m.Src.String(), int(m.SrcPort))
	where = fmt.Sprintf("%x", frame[:6])
	if packettest.Addr(from).String() == "10.0.0.2" {
		where += " from " + from
	}
	return where, from
}
