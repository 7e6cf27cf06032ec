package pipeline_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// everyMode is services of all modes, families and protocols.
func everyMode() []svc {
	return []svc{
		idleSoon(nat()),
		{proto: service.UDP, ports: service.AnyPort, sched: "wlc", backends: []backend{{host: 11}, {host: 13}}},
		{ports: service.Ports{First: 81, Last: 81}, persistMs: 60_000, own: pipeline.ByAddress, backends: []backend{{host: 14, port: 80}, {host: 15, port: 80}}},
		{ports: service.Ports{First: 82, Last: 82}, mode: service.FullNAT, idleMs: 2000, backends: []backend{{host: 16, port: 8080}}},
		{vip: vip6, sched: "mh", backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}},
		{vip: vip6, ports: service.Ports{First: 443, Last: 443}, mode: service.TUN, sched: "rr", backends: []backend{{host: 13, port: 443}, {host: 17, port: 443, v6: true}}},
		{vip: "198.51.100.11", mode: service.DR, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}},
		{vip: "198.51.100.11", proto: service.UDP, mode: service.TUN, backends: []backend{{host: 18, port: 80}, {host: 19, port: 80, v6: true}}},
		{vip: "198.51.100.12"},
	}
}

// seeds are frames of all kinds to start from: openings and further packets of flows through
// everyMode, answers, ICMP errors, and what parsers are tested with.
var seeds = sync.OnceValue(func() (all [][]byte) {
	add := func(p packettest.Packet) { all = append(all, p.Frame()) }
	for _, to := range []string{web4, vip4 + ":81", vip4 + ":82", "198.51.100.11:80", "198.51.100.12:80", "198.51.100.99:80"} {
		add(packettest.TCP(client4, to).Flags(syn))
		add(packettest.TCP(client4, to))
		add(packettest.TCP(client4, to).Flags(fin | ack))
		add(packettest.TCP(client4, to).Payload(make([]byte, 1461)).DF())
		add(packettest.UDP(client4, to).VLAN(9))
		add(packettest.UDP(client4, to).NoChecksum().Payload(make([]byte, 1460)))
		add(packettest.ICMP(transit4, packettest.Addr(to).String(), 3, 4, 1400, packettest.TCP(to, client4).IP()))
		add(packettest.ICMP(transit4, packettest.Addr(to).String(), 3, 3, 0, packettest.UDP(to, client4).IP()))
	}
	for _, to := range []string{web6, port(vip6, "443"), port(vip6, "81")} {
		add(packettest.TCP(client6, to).Flags(syn))
		add(packettest.TCP(client6, to).TTL(1))
		add(packettest.UDP(client6, to))
		add(packettest.ICMP(transit6, vip6, 2, 0, 1400, packettest.TCP(to, client6).IP()))
	}
	for _, from := range []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080", "10.0.0.14:80", "10.0.0.15:80"} {
		add(packettest.TCP(from, client4).Flags(syn | ack))
		add(packettest.UDP(port(packettest.Addr(from).String(), "80"), client4))
		add(packettest.ICMP(packettest.Addr(from).String(), "192.0.2.7", 3, 3, 0, packettest.TCP(client4, from).IP()))
	}
	for local := range 4 {
		add(packettest.TCP("10.0.0.16:8080", fmt.Sprintf("10.0.0.2:%d", 1024+local)).Flags(syn | ack))
	}
	for _, from := range []string{"[2001:db8:a::11]:80", "[2001:db8:a::12]:80"} {
		add(packettest.TCP(from, client6).Flags(syn | ack))
		add(packettest.ICMP("2001:db8:a::11", "2001:db8:9::7", 1, 4, 0, packettest.TCP(client6, from).IP()))
	}
	for _, s := range packettest.Samples {
		add(s.Packet)
	}
	return all
})

// malformed are the reasons for which a frame can't be part of any flow.
var malformed = []counter.Reason{
	counter.Short, counter.NotIP, counter.VLANStack, counter.BadIPHeader, counter.BadIPChecksum, counter.IPOptions, counter.Fragment,
	counter.BadFragment, counter.FragmentFull,
	counter.Martian, counter.BadL4Header, counter.BadTCPFlags, counter.BadICMP, counter.ICMPNoFlow, counter.UnknownProtocol, counter.NoConnection,
}

// checkFrame sends any bytes through the pipeline and checks what holds for all of them.
func (w *world) checkFrame(worker, side int, frame []byte) {
	w.t.Helper()
	before := w.opened()
	o := w.raw(worker, side, frame)
	if opened := w.opened() - before; opened > 0 && (o.Verdict == pipeline.Drop && slices.Contains(malformed, o.Reason)) {
		w.t.Errorf("opened a connection, dropped as %s:\n%s", o, packettest.Decode(frame))
	}
	if o.Verdict == pipeline.Drop {
		if o.Reason == counter.None {
			w.t.Errorf("dropped without a reason:\n%s", packettest.Decode(frame))
		}
		return
	}
	if o.Verdict == pipeline.Hold {
		return
	}
	if o.Start < 0 || o.End > len(o.Mem) || o.Start >= o.End || int(o.Port) > back {
		w.t.Fatalf("leaves as [%d:%d] by port %d", o.Start, o.End, o.Port)
	}
	if out := o.frame(); len(out) > 14+4+1500 {
		w.t.Errorf("leaves with %d bytes", len(out))
	} else if packettest.CheckSums(frame) == nil && packettest.CheckSums(out) != nil {
		w.t.Errorf("%v\ncame in as\n%sleaves (%s) as\n%s", packettest.CheckSums(out), packettest.Decode(frame), o, packettest.Decode(out))
	}
	if beyond := o.Mem[max(o.End, packettest.Headroom+len(frame)):]; !bytes.Equal(beyond, poison[:len(beyond)]) {
		w.t.Errorf("bytes behind the frame are written:\n%s", packettest.Decode(frame))
	}
}

// checkRSTProbes makes the RST probes of a worker that are due.
func (w *world) checkRSTProbes(worker int) {
	w.t.Helper()
	for _, o := range w.rstProbes(worker, 64, 1<<10) {
		if err := packettest.CheckSums(o.frame()); err != nil || o.Verdict != pipeline.Forward || int(o.Port) > back {
			w.t.Errorf("%v\n%s by port %d:\n%s", err, o, o.Port, packettest.Decode(o.frame()))
		}
	}
}

var poison = bytes.Repeat([]byte{0xa5}, packettest.ChunkSize)

func (w *world) opened() (n uint64) {
	for _, p := range w.procs {
		n += p.Packets.ConnOpened
	}
	return n
}

// TestRandomFrames: random frames cause no panic, every one is counted, and none leaves longer than
// the MTU or with a checksum that became wrong (I1, I3, I4).
func TestRandomFrames(t *testing.T) {
	t.Parallel()
	frames := max(steps(60_000), 7_500)
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(workers), 7))
			w := newWorlds(t, workers, 64, everyMode()...)
			all := seeds()
			for i := 0; i < frames && !t.Failed(); i++ {
				frame := all[r.IntN(len(all))]
				if r.IntN(2) == 0 {
					frame = damage(r, frame)
				}
				w.checkFrame(r.IntN(workers), r.IntN(2), frame)
				if w.now += uint32(r.IntN(40)); i%100 == 0 {
					w.pass(uint32(r.IntN(2000)))
				}
				if i%1000 == 0 {
					w.evictFirst(i%2000 == 0)
				}
				if i%50 == 0 {
					w.checkRSTProbes(r.IntN(workers))
				}
			}
			n := w.sum()
			if n.Originated == 0 || n.Drops[counter.BackendGone] == 0 || n.Forwarded == 0 || n.Replied == 0 || n.ConnClosed == 0 || workers > 1 && n.HandedOut == 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// damage changes, cuts or replaces bytes of a copy of the frame, and puts the IPv4 header checksum
// right every other time, so that the damage is met further on.
func damage(r *rand.Rand, frame []byte) []byte {
	frame = slices.Clone(frame)
	switch r.IntN(6) {
	case 0:
		return frame[:r.IntN(len(frame)+1)]
	case 1:
		frame = make([]byte, r.IntN(1514))
		for i := range frame {
			frame[i] = byte(r.Uint32())
		}
		return frame
	case 2:
		return append(frame, make([]byte, r.IntN(64))...)
	}
	for range 1 + r.IntN(3) {
		frame[r.IntN(min(len(frame), 90))] = byte(r.Uint32())
	}
	if len(frame) > 34 && frame[12] == 8 && frame[14]>>4 == 4 && frame[14]&15 >= 5 && r.IntN(2) == 0 {
		packettest.FixIPv4(frame[14:])
	}
	return frame
}

// FuzzProcess sends a frame twice: without any flow, and with those of all seeds.
func FuzzProcess(f *testing.F) {
	for _, frame := range seeds() {
		f.Add(frame, false)
	}
	var w *world // one for all, because making one takes longer than a thousand frames
	f.Fuzz(func(t *testing.T, frame []byte, fromBehind bool) {
		if len(frame) > packettest.ChunkSize-packettest.Headroom {
			return
		}
		side := front
		if fromBehind {
			side = back
		}
		if w == nil {
			w = newWorlds(t, 1, 64, everyMode()...)
		}
		w.t = t
		w.now += 1 << 30 // all flows are over
		w.pass(sweepMs)
		w.checkFrame(0, side, frame)
		for _, seed := range seeds() {
			w.raw(0, front, seed)
		}
		w.checkFrame(0, side, frame)
		w.sum()
	})
}

// TestEveryPrefix: each prefix of each seed that is shorter than its packet is dropped and opens no
// connection (M01, M02).
func TestEveryPrefix(t *testing.T) {
	w := newWorlds(t, 1, 512, everyMode()...)
	for _, frame := range seeds() {
		c := packettest.Place(frame)
		var m packet.Meta
		if packet.Parse(c.Mem, c.Start, c.End, &m) != counter.None {
			continue
		}
		for n := range int(m.End) - c.Start {
			before := w.opened()
			if o := w.raw(0, front, frame[:n]); o.String() != "short" || w.opened() != before {
				t.Fatalf("first %d of %d bytes: %s\n%s", n, len(frame), o, packettest.Decode(frame))
			}
		}
	}
	w.sum()
}

// TestPaddingStays: bytes behind the IP packet are not forwarded (M03).
func TestPaddingStays(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.TUN, service.DR} {
		w := newWorld(t, svc{mode: mode, backends: []backend{{host: 11, port: 80}}})
		in := packettest.TCP(client4, web4).Flags(syn).Payload(nil)
		want := 54
		if mode == service.TUN {
			want += 20
		}
		if o := w.in(in.Padded(1, 2, 3, 4, 5, 6)); len(o.frame()) != want {
			t.Errorf("%s: %d bytes leave, want %d", mode, len(o.frame()), want)
		}
	}
}

// TestWrongChecksumsStayWrong: a wrong checksum stays wrong by the same amount, because checksums
// are updated by difference (M07).
func TestWrongChecksumsStayWrong(t *testing.T) {
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.DR} {
		both(t, func(t *testing.T, client, vip string) {
			w := newWorld(t)
			if vip == vip6 {
				w.sources = []string{"2001:db8:b::2"}
			}
			w.configure(svc{vip: vip, mode: mode, proto: service.UDP, backends: []backend{{host: 11, port: 80}}})
			right := w.in(packettest.UDP(client, port(vip, "80"))).frame()
			for _, by := range []uint16{1, 0x1234, 0xfffe} {
				wrong := w.in(packettest.UDP(client, port(vip, "80")).WrongBy(by)).frame()
				at := 14 + 20 + 6
				if vip == vip6 {
					at += 20
				}
				had, got := uint32(right[at])<<8|uint32(right[at+1]), uint32(wrong[at])<<8|uint32(wrong[at+1])
				if want := had + uint32(by); got != want && got != want-0xffff {
					t.Errorf("%s: wrong by %#x, leaves with %#x instead of %#x", mode, by, got, had)
				}
			}
		})
	}
}

// TestDRTouchesNothing: from the IP header on, only the TTL and the header checksum change,
// whatever the packet is.
func TestDRTouchesNothing(t *testing.T) {
	w := newWorlds(t, 1, 512, svc{mode: service.DR, backends: []backend{{host: 11, port: 80}}},
		svc{mode: service.DR, proto: service.UDP, backends: []backend{{host: 11, port: 80}}},
		svc{vip: vip6, mode: service.DR, backends: []backend{{host: 11, port: 80}}},
		svc{vip: vip6, mode: service.DR, proto: service.UDP, backends: []backend{{host: 11, port: 80}}})
	w.in(packettest.TCP(packettest.Client4, packettest.VIP4).Flags(syn))
	w.in(packettest.TCP(packettest.Client6, packettest.VIP6).Flags(syn))
	for _, s := range packettest.Samples {
		frame := s.Packet.TTL(64).Frame()
		o := w.raw(0, front, frame)
		if o.String() != "forward" {
			t.Errorf("%s: %s", s.Name, o)
			continue
		}
		in, out := s.Packet.TTL(64).IP(), o.frame()[14:]
		ttl, untouched := 8, []int{8, 10, 11}
		if in[0]>>4 == 6 {
			ttl, untouched = 7, []int{7}
		}
		if out[ttl] != in[ttl]-1 {
			t.Errorf("%s: TTL %d", s.Name, out[ttl])
		}
		for _, i := range untouched {
			out[i] = in[i]
		}
		if !bytes.Equal(in, out) {
			t.Errorf("%s: %s", s.Name, packettest.Diff(frame[len(frame)-len(in)-14:], o.frame()))
		}
	}
}

// TestMalformedCostsNothing: malformed frames create no entries, even as many frames as would fill
// the table (M09).
func TestMalformedCostsNothing(t *testing.T) {
	w := newWorlds(t, 1, 64, everyMode()...)
	for n := range 2000 {
		from := fmt.Sprintf("192.0.2.%d:%d", 1+n%250, 1024+n)
		w.ends(w.in(packettest.UDP(from, web4).Fragment(uint16(8*n%4096), true).ID(uint16(n))), "bad_fragment")
		w.ends(w.in(packettest.TCP(from, web4).Flags(syn|fin)), "bad_tcp_flags")
		w.ends(w.in(packettest.TCP(from, web4).Flags(rst)), "no_connection")
	}
	if live := w.procs[0].Table(4).Len() + w.procs[0].Table(6).Len(); live != 0 {
		t.Errorf("%d entries", live)
	}
	w.sum()
}
