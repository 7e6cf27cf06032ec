package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// flooded returns two services of a mode and protocol: of a flood comes to the first.
func flooded(mode service.Mode, proto service.Protocol) []svc {
	one := svc{mode: mode, proto: proto, unproven: counter.Whole / 2, idleMs: 1_000_000, backends: []backend{{host: 11, port: 80}}}
	two := one
	two.vip = "198.51.100.11"
	two.backends = []backend{{host: 12, port: 80}}
	return []svc{one, two}
}

// spoofed returns the n-th opening packet of a flood.
func spoofed(proto service.Protocol, n int) packettest.Packet {
	from := fmt.Sprintf("192.%d.%d.%d:%d", 3+n>>16&63, n>>8&255, 1+n&127, 1024+n%60000)
	if proto == service.UDP {
		return packettest.UDP(from, web4)
	}
	return packettest.TCP(from, web4).Flags(syn)
}

// proven opens a connection that both ends take part in, and returns how far it came.
func (w *world) proven(mode service.Mode, proto service.Protocol, client, vip, host string, between func()) (verdict string) {
	segment := func(flags uint8) packettest.Packet {
		if proto == service.UDP {
			return packettest.UDP(client, vip)
		}
		return packettest.TCP(client, vip).Flags(flags)
	}
	o := w.in(segment(syn))
	if o.String() != "forward" {
		return o.String()
	}
	if between != nil {
		between()
	}
	if mode.RepliesThroughUs() {
		from, to := host, client
		if mode == service.FullNAT {
			var m packet.Meta
			packet.Parse(o.Mem, o.Start, o.End, &m)
			to = port(m.Src.String(), fmt.Sprint(m.SrcPort))
		}
		answer := packettest.TCP(from, to).Flags(syn | ack)
		if proto == service.UDP {
			answer = packettest.UDP(from, to)
		}
		if o := w.out(answer); o.String() != "forward" {
			return "answer: " + o.String()
		}
	} else {
		w.now += 1300
	}
	if o := w.in(segment(ack)); o.String() != "forward" {
		return "ack: " + o.String()
	}
	return "forward"
}

// TestFlood checks that a flood of openings has at most the service's part of the table, that new
// connections of the same and of another service succeed meanwhile although a hundred more packets
// of the flood come before the backend answers, and that no proven connection is removed.
func TestFlood(t *testing.T) {
	const table = 1024
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, proto := range []service.Protocol{service.TCP, service.UDP} {
			for _, slow := range []bool{false, true} {
				t.Run(fmt.Sprint(mode, proto, slow), func(t *testing.T) {
					w := newWorlds(t, 1, table)
					w.slowOnly, w.ports = slow, portSet(1024, 1024+9999)
					w.configure(flooded(mode, proto)...)
					live := []string{}
					for n := range 200 {
						live = append(live, fmt.Sprintf("192.0.2.7:%d", 2000+n))
						if v := w.proven(mode, proto, live[n], web4, "10.0.0.11:80", nil); v != "forward" {
							t.Fatalf("%s: %s", live[n], v)
						}
					}
					n := 0
					flood := func(packets int) {
						for range packets {
							w.ends(w.in(spoofed(proto, n)), "forward")
							if n++; n%6 == 0 { // 6,000 per second
								w.now++
								w.procs[0].Housekeep(w.tables, w.now, 1, 1<<20)
							}
						}
					}
					flood(6000)
					if most, got := (table-200)/2, pipeline.Census(w.procs).Unproven[1]; got > most || got < most*9/10 {
						t.Errorf("%d unproven connections, want %d", got, most)
					}
					for i := range 50 {
						for vip, host := range map[string]string{web4: "10.0.0.11:80", "198.51.100.11:80": "10.0.0.12:80"} {
							client := fmt.Sprintf("192.0.2.8:%d", 2000+i)
							if v := w.proven(mode, proto, client, vip, host, func() { flood(100) }); v != "forward" {
								t.Errorf("%s to %s: %s", client, vip, v)
							}
						}
					}
					if got := pipeline.Census(w.procs).Proven; got != 300 {
						t.Errorf("%d proven connections", got)
					}
					all := map[string]bool{}
					for _, c := range w.entries(0, 4) {
						if c.Flags&conn.Proven != 0 {
							all[fmt.Sprintf("%d %d", c.Service(), c.ClientPort())] = true
						}
					}
					for _, from := range live {
						if !all["1 "+from[len("192.0.2.7:"):]] {
							t.Fatalf("%s is gone", from)
						}
					}
					sum := w.sum()
					if sum.Displaced == 0 || sum.Dropped() != 0 || sum.Replied != 0 {
						t.Errorf("%+v", sum)
					}
					one, two := w.procs[0].Services[1], w.procs[0].Services[2]
					if one.FoundFull == 0 || one.Displaced+two.Displaced != sum.Displaced || one.TableFull+one.Untracked+two.FoundFull != 0 {
						t.Errorf("of the flooded service %+v, of the other %+v, %d displaced", one, two, sum.Displaced)
					}
				})
			}
		}
	}
}

// TestUnproven checks what proves a connection, and that it is not proven any more when it ends.
func TestUnproven(t *testing.T) {
	step := func(w *world, proven, unproven int) {
		t.Helper()
		if got := pipeline.Census(w.procs); got.Proven != proven || got.Unproven[1] != unproven {
			t.Errorf("%d proven and %d unproven connections, want %d and %d", got.Proven, got.Unproven[1], proven, unproven)
		}
		w.sum()
	}
	w := newWorld(t, flooded(service.NAT, service.TCP)...)
	in := func(flags uint8) { w.ends(w.in(packettest.TCP(client4, web4).Flags(flags)), "forward") }
	out := func(flags uint8) {
		w.ends(w.out(packettest.TCP("10.0.0.11:80", client4).Flags(flags)), "forward")
	}
	in(syn)
	step(w, 0, 1)
	in(ack) // without an answer it proves nothing
	step(w, 0, 1)
	out(syn | ack)
	step(w, 0, 1)
	in(ack)
	step(w, 1, 0)
	out(fin | ack)
	in(fin | ack)
	step(w, 0, 0)
	in(syn)
	step(w, 0, 1)
	w.pass(200_000)
	step(w, 0, 0)

	w = newWorld(t, flooded(service.NAT, service.UDP)...)
	w.in(packettest.UDP(client4, web4))
	w.in(packettest.UDP(client4, web4))
	step(w, 0, 1)
	w.out(packettest.UDP("10.0.0.11:80", client4))
	step(w, 1, 0)
	w.pass(1_100_000)
	step(w, 0, 0)

	w = newWorld(t, flooded(service.DR, service.TCP)...)
	for range 10 {
		in(ack | syn)
		in(ack)
	}
	step(w, 0, 1)
	w.now += 1300
	in(ack)
	step(w, 1, 0)
}

// TestFINEndsUnproven checks that a client's FIN ends an unproven connection of tun and dr, until a
// later segment proves it or shows that it has not ended, and ends no proven one.
func TestFINEndsUnproven(t *testing.T) {
	for _, mode := range []service.Mode{service.TUN, service.DR} {
		for _, vip := range []string{vip4, vip6} {
			for _, later := range []uint32{0, 1300} {
				w := newWorld(t, svc{mode: mode, vip: vip, unproven: counter.Whole / 2, backends: []backend{{host: 11, port: 80}}})
				step := func(what string, p packettest.Packet, proven, unproven int) {
					t.Helper()
					w.ends(w.in(p), "forward")
					if got := pipeline.Census(w.procs); got.Proven != proven || got.Unproven[1] != unproven {
						t.Errorf("%s %s, %s: %d proven and %d unproven connections, want %d and %d", mode, vip, what, got.Proven, got.Unproven[1], proven, unproven)
					}
					w.sum()
				}
				segment := func(flags uint8) packettest.Packet {
					return packettest.TCP(clientOf(vip, 0), port(vip, "80")).Flags(flags).Payload(nil)
				}
				step("SYN", segment(syn), 0, 1)
				step("ACK", segment(ack), 0, 1)
				step("FIN", segment(fin|ack), 0, 0)
				step("ACK of the backend's FIN", segment(ack), 0, 0)
				w.now += later
				proven := int(min(later, 1))
				step("data", segment(ack).Payload([]byte("more")), proven, 1-proven)
				step("FIN", segment(fin|ack), proven, 0)
				step("ACK", segment(ack), proven, 0)
				w.now += 1300
				step("a late ACK", segment(ack), 1, 0)
				step("SYN", segment(syn), 1, 0)
				w.pass(1_000_000)
				if got := pipeline.Census(w.procs); got.Proven+got.Unproven[1] != 0 {
					t.Errorf("%s %s, in the end: %d proven and %d unproven connections", mode, vip, got.Proven, got.Unproven[1])
				}
			}
		}
	}
}

// TestOrdinaryIsNoPressure checks that short TCP connections and single datagrams of many clients
// in tun and dr, far more than the table has entries, find no full table while they are so few per
// second that the table has space for those of the last two seconds, and do when they are more.
func TestOrdinaryIsNoPressure(t *testing.T) {
	const table, seconds = 256, 8
	// A DNS client asks for A and AAAA.
	segments := map[service.Protocol][]uint8{service.TCP: {syn, ack, fin | ack, ack}, service.UDP: {0, 0}}
	for proto, flags := range segments {
		for _, mode := range []service.Mode{service.TUN, service.DR} {
			for _, slow := range []bool{false, true} {
				for _, perSecond := range []int{50, 400} {
					w := newWorlds(t, 1, table)
					w.slowOnly = slow
					w.configure(flooded(mode, proto)[0])
					for n := range seconds * perSecond {
						client := fmt.Sprintf("192.%d.%d.%d:%d", 3+n>>16&63, n>>8&255, 1+n&127, 1024+n%60000)
						for _, flags := range flags {
							p := packettest.UDP(client, web4)
							if proto == service.TCP {
								p = packettest.TCP(client, web4).Flags(flags).Payload(nil)
							}
							w.ends(w.in(p), "forward")
						}
						if n*1000/perSecond != (n+1)*1000/perSecond {
							ms := uint32((n+1)*1000/perSecond - n*1000/perSecond)
							w.now += ms
							w.procs[0].Housekeep(w.tables, w.now, ms, 1<<20)
						}
					}
					s := w.procs[0].Services[1]
					if n := w.sum(); n.Displaced == 0 || n.Untracked+n.Dropped() != 0 || (s.FoundFull > 0) != (perSecond > table) {
						t.Errorf("%s %s, slow %v, %d per second: %+v", proto, mode, slow, perSecond, s)
					}
				}
			}
		}
	}
}

// TestTimeWaitMakesRoom checks that a table full of connections that have ended refuses no new one,
// and that they go early as it fills.
func TestTimeWaitMakesRoom(t *testing.T) {
	const table = 1024
	w := newWorlds(t, 1, table, flooded(service.NAT, service.TCP)...)
	for n := range 4 * table {
		client := fmt.Sprintf("192.0.%d.7:%d", 2+n>>10, 2000+n&1023)
		if v := w.proven(service.NAT, service.TCP, client, web4, "10.0.0.11:80", nil); v != "forward" {
			t.Fatalf("connection %d: %s", n, v)
		}
		w.ends(w.out(packettest.TCP("10.0.0.11:80", client).Flags(fin|ack)), "forward")
		w.ends(w.in(packettest.TCP(client, web4).Flags(fin|ack)), "forward")
	}
	if n := w.sum(); n.Dropped() != 0 {
		t.Errorf("%+v", n)
	}
	w.pass(20_000)
	if n := w.procs[0].Table(4).Len(); n > table*8/10 {
		t.Errorf("20 s later there are %d connections in TIME_WAIT", n)
	}
	w.sum()
}

// TestHashUntracked checks that a service with adopt = "hash" refuses nothing although its table is
// full of proven connections.
func TestHashUntracked(t *testing.T) {
	w := newWorlds(t, 1, 64, hashing(vip4, service.TUN))
	for n := range 64 {
		w.in(packettest.TCP(clientOf(vip4, n), web4))
	}
	w.procs[0].ProveAll()
	before := w.sum()
	for n := range 100 {
		first := w.in(spoofed(service.TCP, n))
		w.ends(first, "forward")
		if again := w.in(spoofed(service.TCP, n).Flags(ack)); again.String() != "forward" || hostOf(again) != hostOf(first) {
			t.Errorf("%d: %s to host %d, the SYN went to %d", n, again, hostOf(again), hostOf(first))
		}
	}
	if n := w.sum(); n.Untracked-before.Untracked != 200 || n.ConnOpened != before.ConnOpened {
		t.Errorf("%+v", n)
	}
}

// TestFullCounted checks what is counted for a service with a table full of proven connections: its
// refused packets, and the prefixes that they come from.
func TestFullCounted(t *testing.T) {
	w := newWorlds(t, 1, 64, flooded(service.NAT, service.TCP)...)
	for n := 0; w.in(packettest.TCP(clientOf(vip4, n), web4).Flags(syn)).String() == "forward" && n < 64; n++ {
		w.procs[0].ProveAll()
	}
	w.procs[0].Full = counter.Prefixes{}
	before := w.sum().Drops[counter.TableFull] - w.procs[0].Services[1].TableFull
	for n := range 30 {
		w.ends(w.in(packettest.TCP(fmt.Sprintf("203.0.%d.7:%d", 113+n%3/2, 1000+n), web4).Flags(syn)), "table_full")
	}
	if s, n := w.procs[0].Services[1], w.sum(); before != 0 || s.TableFull != n.Drops[counter.TableFull] || s.FoundFull != s.TableFull {
		t.Errorf("%+v of %d", s, n.Drops[counter.TableFull])
	}
	for _, c := range w.procs[0].Full.All() {
		if want := map[string]uint32{"203.0.113.0/24": 20, "203.0.114.0/24": 10}[c.Netip().String()]; c.Service != 1 || c.Count != want {
			t.Errorf("%+v, want %d", c, want)
		}
	}
}

// TestFloodBesideClosed: beside a flood of one service, connections to another open and close all
// the time, until many more than the table holds have done so. None is refused, and none of the
// flood: each takes the place of an older one.
func TestFloodBesideClosed(t *testing.T) {
	const table, live, closing = 1024, 500, 3000
	for _, slow := range []bool{false, true} {
		w := newWorlds(t, 1, table)
		w.slowOnly = slow
		w.configure(flooded(service.NAT, service.TCP)...)
		for n := range live {
			if v := w.proven(service.NAT, service.TCP, fmt.Sprintf("192.0.2.7:%d", 2000+n), "198.51.100.11:80", "10.0.0.12:80", nil); v != "forward" {
				t.Fatal(v)
			}
		}
		refused, floodRefused, n := 0, 0, 0
		for i := range closing {
			client := fmt.Sprintf("192.0.2.8:%d", 2000+i)
			if v := w.proven(service.NAT, service.TCP, client, "198.51.100.11:80", "10.0.0.12:80", nil); v != "forward" {
				refused++
			}
			w.in(packettest.TCP(client, "198.51.100.11:80").Flags(fin | ack))
			w.out(packettest.TCP("10.0.0.12:80", client).Flags(fin | ack))
			w.now++
			w.in(packettest.TCP(client, "198.51.100.11:80").Flags(ack))
			for range 10 {
				if o := w.in(spoofed(service.TCP, n)); o.String() != "forward" {
					floodRefused++
				}
				n++
			}
			w.now += 4
			w.procs[0].Housekeep(w.tables, w.now, 1, 1<<20)
		}
		if refused > 0 || floodRefused > 0 {
			t.Errorf("slow %v: %d of %d connections were refused, and %d of the flood", slow, refused, closing, floodRefused)
		}
	}
}

// TestFullUntracked checks that a service without adopt, with backends of mode tun or dr,
// refuses nothing although the table is full of proven connections: all packets of a client go to
// one backend, and a segment after there is space again opens an entry there. A minute later,
// segments of unknown connections are answered with RST as ever.
func TestFullUntracked(t *testing.T) {
	const table = 64
	for i, scheduler := range service.Schedulers {
		for _, workers := range []int{1, 3} {
			own := []pipeline.Ownership{pipeline.ByFlow, pipeline.ByReceiver}[i%2]
			s := svc{mode: []service.Mode{service.TUN, service.DR}[i/2%2], sched: scheduler, own: own, idleMs: 10_000, silent: true,
				backends: []backend{{host: 11, port: 80}, {host: 12, port: 80, weight: 2}, {host: 13, port: 80, drain: true}}}
			w := newWorlds(t, workers, table, s)
			w.fillProven(2 * table)
			before, hosts := w.sum(), map[int]int{}
			segment := func(n int, flags uint8) outcome {
				return w.raw(n%workers, front, packettest.TCP(clientOf(vip4, n), web4).Flags(flags).Frame())
			}
			for n := range 200 {
				first := segment(n, syn)
				w.ends(first, "forward")
				hosts[hostOf(first)]++
				for _, flags := range []uint8{syn, ack, fin | ack, rst} {
					if o := segment(n, flags); o.String() != "forward" || hostOf(o) != hostOf(first) {
						t.Errorf("%s: %s to host %d, the SYN went to %d", scheduler, o, hostOf(o), hostOf(first))
					}
				}
			}
			// these do not hash the port, or not the client
			hash := scheduler == "mh" || scheduler == "sh" || scheduler == "dh"
			if n := w.sum(); n.Untracked-before.Untracked != 1000 || n.ConnOpened != before.ConnOpened || n.Dropped()+n.Replied != 0 {
				t.Errorf("%s: %+v", scheduler, n)
			}
			if hosts[13] > 0 || !hash && (hosts[11] < 30 || hosts[12] < hosts[11]) {
				t.Errorf("%s: by host: %v", scheduler, hosts)
			}
			was := hostOf(segment(0, ack))
			w.pass(70_000 - sweepMs) // no connection is left
			w.ends(segment(0, ack), "reply")
			w.fillProven(2 * table)
			w.ends(segment(0, syn), "forward")
			w.pass(30_000)
			adopted := w.sum().Adopted
			for range 2 {
				if o := segment(0, ack); o.String() != "forward" || hostOf(o) != was {
					t.Errorf("%s, with space: %s to host %d, before to %d", scheduler, o, hostOf(o), was)
				}
			}
			if w.sum().Adopted != adopted+1 {
				t.Errorf("%s: an untracked connection has no entry although there is space", scheduler)
			}
			w.pass(60_000)
			w.ends(segment(1, ack), "reply")
			w.sum()
		}
	}
}

// fillProven opens proven connections until there is no space, from so many clients per worker.
func (w *world) fillProven(clients int) {
	for n := range clients * len(w.procs) {
		for _, flags := range []uint8{syn, ack} {
			w.raw(n%len(w.procs), front, packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 2000+n), web4).Flags(flags).Frame())
		}
		for _, p := range w.procs {
			p.ProveAll()
		}
	}
}

// TestFullMixed checks that a service with a backend of mode nat drops what finds no space.
func TestFullMixed(t *testing.T) {
	w := newWorlds(t, 1, 16, svc{mode: service.TUN, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80, mode: service.NAT}}})
	for n := range 16 {
		w.in(packettest.TCP(clientOf(vip4, n), web4).Flags(syn))
		w.procs[0].ProveAll()
	}
	w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "table_full")
	w.ends(w.in(packettest.TCP(client4, web4)), "reply")
}

// TestPortsLeft checks that no connection is refused for the service's part of the ports as long as
// there are free ones: its unproven connections may be too far away to be found among proven ones.
func TestPortsLeft(t *testing.T) {
	w := newWorlds(t, 1, 4096, flooded(service.FullNAT, service.TCP)...)
	for n := range 90 {
		if n == 45 {
			for i := range 5 { // as many as it may have when the others are proven
				w.ends(w.in(spoofed(service.TCP, i)), "forward")
			}
		}
		if v := w.proven(service.FullNAT, service.TCP, fmt.Sprintf("192.0.2.7:%d", 2000+n), web4, "10.0.0.11:80", nil); v != "forward" {
			t.Errorf("connection %d: %s", n, v)
		}
	}
	for n := range 5 {
		w.ends(w.in(spoofed(service.TCP, 5+n)), "forward")
	}
	w.sum()
}

// TestFloodOfPorts checks that a flood at a fullnat service leaves ports to another service with
// the same backend, and to its own clients that answer in time, and that no proven connection loses
// its port.
func TestFloodOfPorts(t *testing.T) {
	const ports, live = 100, 20
	for _, proto := range []service.Protocol{service.TCP, service.UDP} {
		for _, slow := range []bool{false, true} {
			services := flooded(service.FullNAT, proto)
			services[1].backends = services[0].backends
			w := newWorlds(t, 1, 4096, services...)
			w.slowOnly = slow
			other := "198.51.100.11:80"
			for n := range live {
				if v := w.proven(service.FullNAT, proto, fmt.Sprintf("192.0.2.7:%d", 2000+n), web4, "10.0.0.11:80", nil); v != "forward" {
					t.Fatal(v)
				}
			}
			n := 0
			flood := func(packets int) func() {
				return func() {
					for range packets {
						w.ends(w.in(spoofed(proto, n)), "forward")
						if n++; n%6 == 0 {
							w.now++
						}
					}
				}
			}
			flood(2000)()
			if got := pipeline.Census(w.procs); got.Unproven[1] != (ports-live)/2 || got.Proven != live {
				t.Errorf("%s: %d unproven and %d proven connections, want %d and %d", proto, got.Unproven[1], got.Proven, (ports-live)/2, live)
			}
			for i := range 20 {
				client := fmt.Sprintf("192.0.2.8:%d", 2000+i)
				for to, between := range map[string]int{web4: 5, other: 1000} {
					if v := w.proven(service.FullNAT, proto, client, to, "10.0.0.11:80", flood(between)); v != "forward" {
						t.Errorf("%s: %s to %s: %s", proto, client, to, v)
					}
				}
			}
			if got := pipeline.Census(w.procs); got.Proven != live+40 {
				t.Errorf("%s: %d proven connections", proto, got.Proven)
			}
			if n := w.sum(); n.Dropped() != 0 || n.Displaced == 0 {
				t.Errorf("%s: %+v", proto, n)
			}
		}
	}
}
