package pipeline_test

import (
	"bytes"
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// refusals runs a test of a fullnat service with IPv4 and IPv6, on the fast path and on the slow
// one.
func refusals(t *testing.T, test func(t *testing.T, w *world, client, web, host string)) {
	both(t, func(t *testing.T, client, vip string) {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprint("slow ", slow), func(t *testing.T) {
				s := svc{vip: vip, mode: service.FullNAT, backends: []backend{{host: 11, port: 8080}}}
				w, host := newWorld(t, s), "10.0.0.11:8080"
				if vip == vip6 {
					w.sources, host = []string{"2001:db8:b::2"}, "[2001:db8:a::11]:8080"
				}
				w.slowOnly = slow
				w.configure(s)
				test(t, w, client, port(vip, "80"), host)
			})
		}
	})
}

// repeated returns the SYNs that a worker sends again.
func (w *world) repeated() (out []outcome) {
	w.t.Helper()
	p, frames := w.procs[0], make([]pipeline.Frame, 64)
	for i := range frames {
		frames[i].Mem = make([]byte, packettest.ChunkSize)
	}
	if !p.SYNsDue() {
		return nil
	}
	for _, f := range frames[:p.MakeRSTProbes(frames, 0)] {
		out = append(out, outcome{Frame: f})
	}
	return out
}

// synOptions are those of Linux: MSS, SACK permitted, timestamps, window scale.
var synOptions = []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7}

// TestSYNIsRepeated: when a backend answers the SYN that opens a connection by an ACK without SYN,
// it gets a RST with the number that it expects, and the same SYN again, byte by byte. The client
// gets the SYN-ACK, and nothing before.
func TestSYNIsRepeated(t *testing.T) {
	refusals(t, func(t *testing.T, w *world, client, web, host string) {
		opens := packettest.TCP(client, web).Flags(syn).Seq(1000, 0).TCPOptions(synOptions...).Payload(nil).TTL(50)
		first := w.in(opens)
		w.ends(first, "forward")
		sent := bytes.Clone(first.frame())
		from := packettest.Decode(sent)
		local := source(t, sent).String()
		w.now += 3
		answer := w.out(packettest.TCP(host, local).Flags(ack).Seq(7, 0xfffffff0).Payload(nil))
		w.expect(answer, "reply", back, returned(packettest.TCP(local, host).Flags(rst).Seq(0xfffffff0, 0).Window(0).Payload(nil).DF()))
		again := w.repeated()
		if len(again) != 1 || again[0].Port != back || !bytes.Equal(again[0].frame(), sent) {
			t.Fatalf("%d frames again; the SYN was\n%s", len(again), from)
		}
		if c := w.only(); c.State != conn.SynRecv {
			t.Errorf("state %s", c.State)
		}
		w.ends(w.out(packettest.TCP(host, local).Flags(syn|ack).Seq(5, 1001)), "forward")
		w.ends(w.in(packettest.TCP(client, web).Seq(1001, 6)), "forward")
		if c := w.only(); c.State != conn.Established {
			t.Errorf("state %s", c.State)
		}
		if p := w.sum(); p.Replied != 1 || p.Originated != 1 || p.Forwarded != 3 {
			t.Errorf("%d answers, %d originated, %d forwarded", p.Replied, p.Originated, p.Forwarded)
		}
	})
}

// TestSYNIsNotRepeated: what does not refuse the SYN that has opened the connection goes to the
// client, as does a second refusal.
func TestSYNIsNotRepeated(t *testing.T) {
	refusals(t, func(t *testing.T, w *world, client, web, host string) {
		n := 0
		open := func() (from, local string) {
			n++
			from = port(packettest.Addr(client).String(), fmt.Sprint(20_000+n))
			o := w.in(packettest.TCP(from, web).Flags(syn).Seq(1000, 0).Payload(nil))
			w.ends(o, "forward")
			return from, source(t, o.frame()).String()
		}
		forwarded := func(what string, p packettest.Packet) {
			t.Helper()
			if o := w.out(p); o.String() != "forward" || len(w.repeated()) != 0 {
				t.Errorf("%s: %s", what, o)
			}
		}
		_, local := open()
		forwarded("a SYN-ACK", packettest.TCP(host, local).Flags(syn|ack).Seq(7, 1001).Payload(nil))
		forwarded("an ACK after the SYN-ACK", packettest.TCP(host, local).Flags(ack).Seq(7, 77).Payload(nil))
		_, local = open()
		forwarded("an ACK for the SYN", packettest.TCP(host, local).Flags(ack).Seq(7, 1001).Payload(nil))
		_, local = open()
		forwarded("a RST", packettest.TCP(host, local).Flags(rst|ack).Seq(0, 1001).Payload(nil))
		_, local = open()
		w.now += 5000
		forwarded("a late ACK", packettest.TCP(host, local).Flags(ack).Seq(7, 77).Payload(nil))

		_, local = open()
		w.ends(w.out(packettest.TCP(host, local).Flags(ack).Seq(7, 77).Payload(nil)), "reply")
		if len(w.repeated()) != 1 {
			t.Error("no SYN is repeated")
		}
		forwarded("a second refusal", packettest.TCP(host, local).Flags(ack).Seq(7, 77).Payload(nil))

		// A SYN that a stranger sends on a connection that the backend has closed for its part.
		from, local := open()
		w.ends(w.out(packettest.TCP(host, local).Flags(syn|ack).Seq(7, 1001)), "forward")
		w.ends(w.in(packettest.TCP(from, web).Seq(1001, 8)), "forward")
		w.ends(w.out(packettest.TCP(host, local).Flags(fin|ack).Seq(8, 1001)), "forward")
		w.ends(w.in(packettest.TCP(from, web).Flags(syn).Seq(9999, 0).Payload(nil)), "forward")
		forwarded("an ACK for a forged SYN", packettest.TCP(host, local).Flags(ack).Seq(9, 1001).Payload(nil))
		w.sum()
	})
}

// TestSYNCopiesEnd: no copies are kept from a minute after the start on, until a SYN is refused:
// that one is left to the client.
func TestSYNCopiesEnd(t *testing.T) {
	refusals(t, func(t *testing.T, w *world, client, web, host string) {
		verdict := func(n int) string {
			o := w.in(packettest.TCP(port(packettest.Addr(client).String(), fmt.Sprint(20_000+n)), web).Flags(syn).Seq(1000, 0).Payload(nil))
			w.ends(o, "forward")
			verdict := w.out(packettest.TCP(host, source(t, o.frame()).String()).Flags(ack).Seq(7, 77).Payload(nil)).String()
			w.repeated()
			return verdict
		}
		w.pass(0)
		if v := verdict(1); v != "reply" {
			t.Errorf("at the start: %s", v)
		}
		w.pass(61_000)
		w.pass(1)
		for n, want := range []string{"forward", "reply", "reply"} {
			if v := verdict(2 + n); v != want {
				t.Errorf("%d: %s, want %s", n, v, want)
			}
		}
	})
}

// TestRefusedSYNAllocatesNothing: copies, refusals and repeated SYNs allocate nothing.
func TestRefusedSYNAllocatesNothing(t *testing.T) {
	w := newWorld(t, svc{mode: service.FullNAT, backends: []backend{{host: 11, port: 8080}}})
	const runs = 10
	var opens, refuses []packettest.Chunk
	for n := range runs + 1 { // AllocsPerRun makes one more
		opens = append(opens, packettest.TCP(fmt.Sprint("192.0.2.7:", 1000+n), web4).Flags(syn).Payload(nil).Chunk())
		o := w.in(packettest.TCP(fmt.Sprint("192.0.2.7:", 2000+n), web4).Flags(syn).Payload(nil))
		refuses = append(refuses, packettest.TCP("10.0.0.11:8080", source(t, o.frame()).String()).Flags(ack).Seq(7, 77).Payload(nil).Chunk())
	}
	p, frames := w.procs[0], []pipeline.Frame{{Mem: make([]byte, packettest.ChunkSize)}}
	send := func(c packettest.Chunk, in uint8) {
		w.batch.Frames[0] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Port: in}
		p.Process(w.batch, 1, w.tables, w.now)
	}
	n, made := 0, 0
	allocs := testing.AllocsPerRun(runs, func() {
		send(opens[n], front)
		send(refuses[n], back)
		made += p.MakeRSTProbes(frames, 0)
		n++
	})
	if allocs != 0 || made != runs+1 {
		t.Errorf("%v allocations for %d SYNs", allocs, made)
	}
}
