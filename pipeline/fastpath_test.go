package pipeline_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// fastModes returns the services of everyMode, and more that have a fast entry.
func fastModes() []svc {
	return append(everyMode(),
		svc{ports: service.Ports{First: 83, Last: 83}, mode: service.DR, backends: []backend{{host: 20, port: 83}}},
		denying(svc{ports: service.Ports{First: 84, Last: 84}, proto: service.UDP, backends: []backend{{host: 11, port: 53}, {host: 12}}}, "-192.0.2.2/32"),
		svc{ports: service.Ports{First: 85, Last: 85}, mode: service.TUN, backends: []backend{{host: 12, port: 85}, {host: 13, port: 85, v6: true}}},
		svc{vip: vip6, ports: service.Ports{First: 84, Last: 84}, proto: service.UDP, backends: []backend{{host: 11, port: 53}, {host: 12}}},
		denying(svc{vip: vip6, ports: service.Ports{First: 85, Last: 85}, mode: service.TUN, backends: []backend{{host: 12, port: 85}}}, "-2001:db8:9::2/128"),
		svc{vip: vip6, ports: service.Ports{First: 83, Last: 83}, mode: service.DR, backends: []backend{{host: 20, port: 83}}},
		svc{vip: vip6, ports: service.Ports{First: 82, Last: 82}, proto: service.UDP, mode: service.DR, backends: []backend{{host: 20, port: 82}}},
		svc{ports: service.Ports{First: 86, Last: 86}, mode: service.TUN, sched: "mh", adopt: true, backends: []backend{{host: 12, port: 86}, {host: 13, port: 86, v6: true}}},
		denying(svc{ports: service.Ports{First: 86, Last: 86}, proto: service.UDP, mode: service.DR, sched: "mh", adopt: true, backends: []backend{{host: 12, port: 86}, {host: 20, port: 86}}}, "-192.0.2.2/32"),
		svc{vip: vip6, ports: service.Ports{First: 86, Last: 86}, mode: service.DR, sched: "mh", adopt: true, backends: []backend{{host: 12, port: 86}, {host: 20, port: 86}}},
		svc{vip: vip6, ports: service.Ports{First: 86, Last: 86}, proto: service.UDP, mode: service.TUN, sched: "mh", adopt: true, backends: []backend{{host: 12, port: 86}, {host: 20, port: 86}}})
}

// conversation is a random frame of a few flows through expressModes, in either direction, with
// hardly ever anything wrong about it. Most of those from backends answer the packet that reached
// one last, which may be none.
func conversation(r *rand.Rand, last *packet.Meta) (side int, frame []byte) {
	client, vip, host := fmt.Sprintf("192.0.2.%d:%d", 1+r.IntN(2), 1024+r.IntN(3)), vip4, "10.0.0.%d"
	if r.IntN(2) == 0 {
		client, vip, host = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+r.IntN(2), 1024+r.IntN(3)), vip6, "2001:db8:a::%d"
	}
	from, to, tcp := client, port(vip, fmt.Sprint([]int{80, 82, 83, 84, 85, 86, 443}[r.IntN(7)])), r.IntN(2) == 0
	switch r.IntN(8) {
	case 0, 1, 2:
		if side = back; last.Proto != 0 {
			from, to = port(last.Dst.String(), fmt.Sprint(last.DstPort)), port(last.Src.String(), fmt.Sprint(last.SrcPort))
			tcp = last.Proto == packet.TCP
		}
	case 3:
		side = back
		from = port(fmt.Sprintf(host, 11+r.IntN(3)), fmt.Sprint([]int{80, 84, 53, 8080}[r.IntN(4)]))
		to = client
	}
	p := packettest.UDP(from, to)
	if tcp {
		flags := []uint8{syn, syn | ack, fin | ack, rst, fin | 8, 0, syn, syn}
		p = packettest.TCP(from, to).Flags(append(flags, bytes.Repeat([]byte{ack, ack | 8}, 12)...)[r.IntN(32)])
	} else if r.IntN(4) == 0 && len(p.IP()) > 0 && p.IP()[0]>>4 == 4 {
		p = p.NoChecksum()
	}
	p = p.TTL(uint8([]int{64, 64, 64, 2, 1}[r.IntN(5)])).Payload(make([]byte, []int{0, 1, 7, 100, 1430, 1460, 1480}[r.IntN(7)]))
	if r.IntN(4) == 0 {
		p = p.DF()
	}
	if r.IntN(8) == 0 {
		p = p.WrongBy(uint16(r.Uint32()))
	}
	frame = p.Frame()
	if r.IntN(6) == 0 {
		frame = append(frame, make([]byte, r.IntN(20))...) // padding
	}
	return side, frame
}

// state returns a worker's counters and tables as text. The entries of a table are in the order of
// their slots, because the slot of a connection decides which ones a full table accepts later.
func state(p *pipeline.Processor) string {
	var out bytes.Buffer
	fmt.Fprintln(&out, *p.Packets)
	for id := range p.Backends[:64] {
		if b := &p.Backends[id]; *b != (counter.Backend{}) {
			fmt.Fprintln(&out, id, *b)
		}
	}
	for _, family := range []int{4, 6} {
		t := p.Table(family)
		for cursor, first := uint32(0), true; first || cursor != 0; first = false {
			cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
				fmt.Fprintf(&out, "%+v of %v to %v\n", *c, t.Client(c), t.BackendAddr(c))
			})
		}
	}
	fmt.Fprintln(&out, p.Memory(64))
	return out.String()
}

// worldPair is a world with the fast path and one without, which are alike otherwise.
type worldPair struct {
	w            [2]*world
	fast, opened map[string]int // how many frames took the fast path, by their kind
}

func newWorldPair(t *testing.T, workers, connections int, net network, services ...svc) *worldPair {
	b := &worldPair{fast: make(map[string]int), opened: make(map[string]int)}
	for i := range b.w {
		b.w[i] = newWorlds(t, workers, connections)
		b.w[i].net, b.w[i].slowOnly = net, i == 1
		b.w[i].configure(services...)
	}
	return b
}

// both calls do with each world.
func (b *worldPair) both(do func(w *world)) {
	for _, w := range b.w {
		do(w)
	}
}

// wait lets time pass without housekeeping.
func (b *worldPair) wait(ms uint32) {
	b.both(func(w *world) { w.now += ms })
}

// send sends a frame through both worlds and checks that the results are equal.
func (b *worldPair) send(worker, side int, frame []byte) outcome {
	t := b.w[0].t
	t.Helper()
	x, o := b.w[0].raw(worker, side, frame), b.w[1].raw(worker, side, frame)
	if x.String() != o.String() || x.owner != o.owner || x.Verdict != pipeline.Drop && (x.Port != o.Port || !bytes.Equal(x.frame(), o.frame())) {
		t.Fatalf("worker %d:\n%sfast: %s by %d of %d\n%sslow: %s by %d of %d\n%s", worker, packettest.Decode(frame),
			x, x.Port, x.owner, packettest.Decode(x.frame()), o, o.Port, o.owner, packettest.Decode(o.frame()))
	}
	if x.OpenedFast() {
		b.opened[kindOf(frame, side)]++
	} else if x.TookFastPath() {
		b.fast[kindOf(frame, side)]++
	}
	return x
}

// compare checks that the workers of both worlds have the same state.
func (b *worldPair) compare() {
	t := b.w[0].t
	t.Helper()
	for i := range b.w[0].procs {
		if x, o := state(b.w[0].procs[i]), state(b.w[1].procs[i]); x != o {
			t.Errorf("worker %d:\nfast\n%s\nslow\n%s", i, x, o)
		}
	}
}

// end compares for the last time, checks the sums of the counters, and that in each family at least
// so many connections were opened on the fast path.
func (b *worldPair) end(opened int) {
	t := b.w[0].t
	t.Helper()
	b.compare()
	b.both(func(w *world) { w.sum() })
	if b.opened["tcp4 in"] < opened || b.opened["tcp6 in"] < opened {
		t.Errorf("connections opened on the fast path: %v", b.opened)
	}
}

// TestFastPathEqualsSlowPath sends the same frames through a world with the fast path and one
// without: the same frames leave, and the same is recorded and counted.
func TestFastPathEqualsSlowPath(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 3} {
		for _, net := range []network{{}, {frontMTU: 1280, mtu: 1400}, {silent: 11}, {noRouter: true}, {vlan: 7}} {
			t.Run(fmt.Sprintf("%d/%+v", workers, net), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(workers), uint64(net.mtu)))
				b := newWorldPair(t, workers, 4096, net, fastModes()...)
				last := packet.Meta{}
				for n := 0; n < steps(30_000) && !t.Failed(); n++ {
					side, frame := conversation(r, &last)
					switch r.IntN(20) {
					case 0:
						frame = damage(r, frame)
					case 1:
						frame = seeds()[r.IntN(len(seeds()))]
					}
					o := b.send(r.IntN(workers), side, frame)
					b.wait(uint32(r.IntN(40)))
					if n%3000 == 2999 {
						b.both(func(w *world) { w.evictFirst(n%6000 < 3000) })
					}
					if side == front && o.Verdict == pipeline.Forward && int(o.Port) == back {
						packet.Parse(o.Mem, o.Start, o.End, &last)
					}
				}
				b.compare()
				if net == (network{}) {
					for _, kind := range []string{"tcp4 in", "tcp4 out", "udp4 in", "udp4 out", "tcp6 in", "tcp6 out", "udp6 in", "udp6 out"} {
						if b.fast[kind] < steps(50)/workers/2 {
							t.Errorf("%s took the fast path %d times: %v", kind, b.fast[kind], b.fast)
						}
					}
				}
			})
		}
	}
}

// TestFastOpenEqualsSlowPath is TestFastPathEqualsSlowPath with a new client for each connection.
// The services have different schedulers, some are without a backend from time to time, and the
// table is nearly full and swept now and then.
func TestFastOpenEqualsSlowPath(t *testing.T) {
	t.Parallel()
	var services []svc
	names := append(slices.Clone(service.Schedulers), "mh", "mh") // the last two adopt
	for i, name := range names {
		for _, vip := range []string{vip4, vip6} {
			s := svc{vip: vip, ports: service.Ports{First: uint16(100 + i), Last: uint16(100 + i)}, sched: name,
				mode:     []service.Mode{service.NAT, service.TUN, service.DR, service.FullNAT}[i%4],
				backends: []backend{{host: 11, port: 80}, {host: 12, weight: 3}, {host: 13, mode: service.DR, weight: 2}}}
			if i%3 == 2 {
				s.proto = service.UDP
			}
			if s.adopt = i >= len(service.Schedulers); s.adopt {
				s.mode = []service.Mode{service.TUN, service.DR}[i%2]
			}
			services = append(services, s)
		}
	}
	for _, workers := range []int{1, 3} {
		for _, connections := range []int{96, 2000} { // of both families together
			t.Run(fmt.Sprint(workers, connections), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(workers), uint64(connections)))
				b := newWorldPair(t, workers, connections, network{}, services...)
				for n := 0; n < steps(40_000) && !t.Failed(); n++ {
					if n%500 == 499 {
						for i := range services {
							services[i].persistMs = []uint32{0, 0, 0, 5_000}[r.IntN(4)]
							for j := range services[i].backends {
								be := &services[i].backends[j]
								be.down, be.drain = r.IntN(4) == 0, r.IntN(8) == 0
							}
						}
						b.both(func(w *world) { w.configure(services...) })
					}
					if n%97 == 96 {
						b.both(func(w *world) {
							for _, p := range w.procs {
								p.Housekeep(w.tables, w.now, 500, 1<<20)
							}
						})
					}
					client, vip := fmt.Sprintf("192.0.%d.%d:%d", r.IntN(4), 1+r.IntN(200), 1024+r.IntN(20)), vip4
					if r.IntN(2) == 0 {
						client, vip = fmt.Sprintf("[2001:db8:9::%d]:%d", 1+r.IntN(200), 1024+r.IntN(20)), vip6
					}
					i := r.IntN(len(names))
					to := port(vip, fmt.Sprint(100+i))
					p := packettest.TCP(client, to).Flags([]uint8{syn, syn, syn, syn, syn, syn | 8, syn | ack, ack}[r.IntN(8)])
					if i%3 == 2 {
						p = packettest.UDP(client, to)
					}
					p = p.TTL([]uint8{64, 64, 64, 64, 2, 1}[r.IntN(6)]).Payload(make([]byte, []int{0, 0, 0, 10, 1460, 1480}[r.IntN(6)]))
					for range 1 + r.IntN(2) { // once more, as retransmitted
						b.send(r.IntN(workers), front, p.Frame())
					}
					b.wait(uint32(r.IntN(400)))
					if n%1000 == 0 {
						b.compare()
					}
				}
				b.end(steps(50))
			})
		}
	}
}

// sharedServices are services with common backends and with addresses that are backends and clients
// of others. Each changes its mode from time to time.
func sharedServices() []svc {
	return []svc{
		{backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}},
		{vip: "198.51.100.11", backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}},
		{vip: "10.0.0.11", backends: []backend{{host: 12, port: 80}, {host: 13, port: 80}}},
		{proto: service.UDP, backends: []backend{{host: 11, port: 80}, {host: 12}}},
		{vip: "10.0.0.12", proto: service.UDP, backends: []backend{{host: 11, port: 80}, {host: 13, port: 80}}},
		{vip: "10.0.0.13", proto: service.UDP, ports: service.Ports{First: 79, Last: 81}, backends: []backend{{host: 11, port: 80}}},
		{vip: vip6, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}},
		{vip: "2001:db8:a::11", backends: []backend{{host: 12, port: 80}, {host: 13, port: 80}}},
		{vip: vip6, proto: service.UDP, backends: []backend{{host: 11, port: 80}, {host: 12}}},
		{vip: "2001:db8:a::12", proto: service.UDP, backends: []backend{{host: 11, port: 80}, {host: 13, port: 80}}},
		{vip: "2001:db8:a::13", proto: service.UDP, ports: service.Ports{First: 79, Last: 81}, backends: []backend{{host: 11, port: 80}}},
		{ports: service.Ports{First: 9, Last: 9}, mode: service.FullNAT, backends: []backend{{host: 14, port: 9}}},
	}
}

// changeServices changes the services as reloads and operators do, and more.
func changeServices(r *rand.Rand, services []svc) {
	for i := range services[:len(services)-1] {
		s := &services[i]
		s.gone = r.IntN(8) == 0
		s.idleMs = []uint32{0, 0, 500, 60_000}[r.IntN(4)]
		s.mode = []service.Mode{service.NAT, service.NAT, service.NAT, service.FullNAT, service.TUN, service.DR}[r.IntN(6)]
		s.own, s.persistMs = pipeline.ByFlow, 0
		switch r.IntN(12) {
		case 0:
			s.own, s.persistMs = pipeline.ByAddress, 5_000
		case 1:
			s.own = pipeline.ByReceiver
		case 2:
			s.own = pipeline.ByFlowNow
		}
		s.moved = true
		for j := range s.backends {
			be := &s.backends[j]
			be.drain, be.down, be.evict, be.gone, be.mode = r.IntN(4) == 0, r.IntN(8) == 0, r.IntN(12) == 0, r.IntN(12) == 0, 0
			if r.IntN(8) == 0 {
				be.mode = service.NAT + service.Mode(r.IntN(4))
			}
		}
	}
}

// TestFastPathSharedAddresses is TestFastPathEqualsSlowPath with clients, services and backends
// that share addresses and ports. The services change often, the table is nearly full, and the
// clock jumps and wraps.
func TestFastPathSharedAddresses(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	t.Parallel()
	ends := [2][]string{
		{"192.0.2.7:40000", "192.0.2.8:40000", "10.0.0.11:40000", "10.0.0.12:40000", "10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80",
			"10.0.0.2:1024", web4, "198.51.100.11:80", vip4 + ":9", "192.0.2.7:80", "10.0.0.14:9",
			"192.0.2.8:80", web4, "192.0.2.7:9", "198.51.100.11:80", "10.0.0.29:80"},
		{"[2001:db8:9::7]:40000", "[2001:db8:9::8]:40000", "[2001:db8:a::11]:40000", "[2001:db8:a::12]:40000", "[2001:db8:a::11]:80",
			"[2001:db8:a::12]:80", "[2001:db8:a::13]:80", web6, "[2001:db8:9::7]:80",
			"[2001:db8:9::8]:80", web6, "[2001:db8:9::7]:9", web6, "[2001:db8:a::29]:80"},
	}
	// of few, many share a home
	for _, test := range []struct{ workers, connections int }{{1, 24}, {3, 24}, {1, 6}} {
		workers := test.workers
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(workers), 3))
			services := sharedServices()
			b := newWorldPair(t, workers, test.connections, network{}, services...)
			b.both(func(w *world) { w.now = 1<<32 - 100_000 })
			from, to, tcp := "", "", false
			for n := 0; n < max(steps(60_000), 8_000) && !t.Failed(); n++ {
				if n%400 == 399 {
					net := network{}
					switch r.IntN(6) {
					case 0:
						net.vlan = 7
					case 1:
						net.mtu = 1400
					case 2:
						net.silent = 12
					case 3:
						net.frontMTU = 1300
					}
					changeServices(r, services)
					b.both(func(w *world) { w.net = net; w.configure(services...) })
				}
				if n%197 == 196 {
					leap := []uint32{100, 10_000, 1_000_000, 1 << 30, 1<<30 + 1<<29}[r.IntN(5)]
					b.wait(leap)
					b.both(func(w *world) {
						for _, p := range w.procs {
							p.Housekeep(w.tables, w.now, leap, 1<<20)
						}
					})
				}
				fresh := r.IntN(6) == 0 || from == ""
				if fresh {
					all := ends[r.IntN(2)]
					from, to, tcp = all[r.IntN(len(all))], all[r.IntN(len(all))], r.IntN(2) == 0
				}
				p := packettest.UDP(from, to)
				if tcp {
					p = packettest.TCP(from, to).Flags([]uint8{ack, ack, ack, ack, ack, ack | 8, ack | 8, syn | ack, fin | ack, rst, 8}[r.IntN(11)])
					if fresh {
						p = p.Flags(syn)
					}
				}
				p = p.TTL([]uint8{64, 64, 64, 64, 2, 1}[r.IntN(6)]).Payload(make([]byte, []int{0, 1, 10, 1300, 1460}[r.IntN(5)]))
				side := r.IntN(2)
				o := b.send(r.IntN(workers), side, p.Frame())
				b.wait(uint32(r.IntN(20)))
				// an answer, or what comes after one
				if o.Verdict == pipeline.Forward && r.IntN(2) == 0 {
					var m packet.Meta
					packet.Parse(o.Mem, o.Start, o.End, &m)
					if m.Proto == packet.TCP || m.Proto == packet.UDP {
						from, to = port(m.Dst.String(), fmt.Sprint(m.DstPort)), port(m.Src.String(), fmt.Sprint(m.SrcPort))
					}
				}
				if n%2000 == 0 {
					b.compare()
				}
			}
			b.end(steps(min(20, test.connections))) // a full table opens on the slow path
			for _, kind := range []string{"tcp4 in", "tcp4 out", "udp4 in", "udp4 out", "tcp6 in", "tcp6 out", "udp6 in", "udp6 out"} {
				if b.fast[kind] < steps(30) {
					t.Errorf("%s took the fast path %d times: %v", kind, b.fast[kind], b.fast)
				}
			}
		})
	}
}

// kindOf names a frame's protocol, family and direction.
func kindOf(frame []byte, side int) string {
	c := packettest.Place(frame)
	var m packet.Meta
	packet.Parse(c.Mem, c.Start, c.End, &m)
	proto := map[uint8]string{packet.TCP: "tcp", packet.UDP: "udp"}[m.Proto]
	return fmt.Sprintf("%s%d %s", proto, m.Family, []string{front: "in", back: "out"}[side])
}

// TestNoFastEntryForTwoServices: two services have one backend. Its replies to a client come from
// the address of the client's service.
func TestNoFastEntryForTwoServices(t *testing.T) {
	w := newWorld(t, nat(), svc{vip: "198.51.100.11", backends: []backend{{host: 14, port: 8080}}})
	all := slices.Clone(w.tables.Services)
	all[1].Backends, all[1].Scheduler = all[2].Backends, all[2].Scheduler
	w.tables = pipeline.NewTables(all, w.tables.Backends, w.tables.Hops, nil, nil, nil)
	for i, vip := range []string{vip4, "198.51.100.11"} {
		client, vip, host := fmt.Sprintf("192.0.2.7:%d", 4000+i), port(vip, "80"), "10.0.0.14:8080"
		w.ends(w.in(packettest.TCP(client, vip).Flags(syn)), "forward")
		for range 3 {
			w.expect(w.in(packettest.TCP(client, vip)), "forward", back, toHost(packettest.TCP(client, host).TTL(63), 14))
			w.expect(w.out(packettest.TCP(host, client)), "forward", front, toClient(packettest.TCP(vip, client).TTL(63)))
		}
	}
}

// TestTwoProtocolsInOneLine: a client has connections over TCP and UDP from one port to one port of
// a backend, which may lie in one line of the table. Each is answered from its own service.
func TestTwoProtocolsInOneLine(t *testing.T) {
	for _, family := range []struct{ tcp, udp, client, host string }{
		{web4, vip4 + ":81", "192.0.2.7:%d", "10.0.0.11:80"}, {web6, port(vip6, "81"), "[2001:db8:9::7]:%d", "[2001:db8:a::11]:80"},
	} {
		vip := packettest.Addr(family.tcp).String()
		w := newWorlds(t, 1, 4, svc{vip: vip, backends: []backend{{host: 11, port: 80}}},
			svc{vip: vip, proto: service.UDP, ports: service.Ports{First: 81, Last: 81}, backends: []backend{{host: 11, port: 80}}})
		for n := range 64 {
			client := fmt.Sprintf(family.client, 4000+n)
			w.in(packettest.TCP(client, family.tcp).Flags(syn))
			w.in(packettest.UDP(client, family.udp))
			w.in(packettest.TCP(client, family.tcp))
			w.expect(w.out(packettest.TCP(family.host, client)), "forward", front, toClient(packettest.TCP(family.tcp, client).TTL(63)))
			w.expect(w.out(packettest.UDP(family.host, client)), "forward", front, toClient(packettest.UDP(family.udp, client).TTL(63)))
			w.pass(1_000_000)
		}
	}
}

// TestFastPathInBatches: frames in a batch are processed and counted as if they had come one by
// one, whether they were received or handed over.
func TestFastPathInBatches(t *testing.T) {
	for _, workers := range []int{1, 3} {
		r := rand.New(rand.NewPCG(uint64(workers), 5))
		b := newWorldPair(t, workers, 4096, network{}, fastModes()...)
		last := packet.Meta{}
		for range 400 {
			n := 1 + r.IntN(32)
			batch, alone := new(pipeline.Batch), new(pipeline.Batch)
			for i := range n {
				side, frame := conversation(r, &last)
				c, again := packettest.Place(frame), packettest.Place(frame)
				f := pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Port: uint8(side), Hops: uint8(r.IntN(min(workers, 2)))}
				batch.Frames[i] = f
				f.Mem = again.Mem
				alone.Frames[i] = f
			}
			b.w[0].procs[0].Process(batch, n, b.w[0].tables, b.w[0].now)
			for i := range n {
				w, one := b.w[1], new(pipeline.Batch)
				one.Frames[0] = alone.Frames[i]
				w.procs[0].ProcessSlow(one, w.tables, w.now)
				x, o := &batch.Frames[i], &one.Frames[0]
				if x.Verdict != o.Verdict || x.Hops != o.Hops || x.Verdict == pipeline.Drop && x.Reason != o.Reason || !bytes.Equal(x.Mem[x.Start:x.End], o.Mem[o.Start:o.End]) {
					t.Fatalf("frame %d of a batch of %d: verdict %d, alone %d\n%s", i, n, x.Verdict, o.Verdict, packettest.Decode(x.Mem[x.Start:x.End]))
				}
				if x.Verdict == pipeline.Forward && int(x.Port) == back {
					packet.Parse(x.Mem, x.Start, x.End, &last)
				}
			}
			b.wait(uint32(r.IntN(100)))
		}
		b.compare()
	}
}

// TestFastPathOpens checks that the fast path opens connections at all: of both protocols, from a
// NIC port or handed over, and of services that have a backend without a fast entry. The comparison
// of two worlds would not notice if it opened none.
func TestFastPathOpens(t *testing.T) {
	for _, vip := range []string{vip4, vip6} {
		for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
			for _, proto := range []service.Protocol{service.TCP, service.UDP} {
				s := svc{vip: vip, mode: mode, proto: proto, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80, mode: service.FullNAT}}}
				w := newWorlds(t, 2, 64, s)
				if mode == service.FullNAT { // else no SNAT address and no fast path to host 12
					w.sources = map[string][]string{vip4: {"10.0.0.2"}, vip6: {"2001:db8:a::2"}}[vip]
					w.configure(s)
				}
				var opened [2]int // by hops
				for n := range 16 {
					client := fmt.Sprintf("192.0.2.7:%d", 4000+n)
					if vip == vip6 {
						client = fmt.Sprintf("[2001:db8:9::7]:%d", 4000+n)
					}
					p := packettest.TCP(client, port(vip, "80")).Flags(syn)
					if proto == service.UDP {
						p = packettest.UDP(client, port(vip, "80"))
					}
					c := p.Chunk()
					f := &w.batch.Frames[0]
					*f = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Hops: uint8(n % 2)}
					w.procs[0].Process(w.batch, 1, w.tables, w.now)
					if mac := hostMAC(11); f.Verdict != pipeline.Forward || !bytes.Equal(f.Mem[f.Start:f.Start+6], mac[:]) {
						continue // not this worker's, or to the backend without a fast path
					}
					if opened[n%2]++; !f.TookFastPath() {
						t.Errorf("%s %s %s: opened on the slow path, after %d hops", vip, mode, proto, n%2)
					}
				}
				if opened[0] == 0 || opened[1] == 0 {
					t.Errorf("%s %s %s: the fast path opened %d connections of fresh packets and %d of those handed over", vip, mode, proto, opened[0], opened[1])
				}
			}
		}
	}
}

// TestDryRunOfOpens checks that a dry run of a packet that opens a connection has the result of
// processing it, calls the scheduler with what the packet has, and changes nothing of the worker.
func TestDryRunOfOpens(t *testing.T) {
	for _, vip := range []string{vip4, vip6} {
		for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
			for _, proto := range []service.Protocol{service.TCP, service.UDP} {
				s := svc{vip: vip, mode: mode, proto: proto, sched: "wrr", backends: []backend{{host: 11, port: 8080}, {host: 12, port: 8080, weight: 2}}}
				w := newWorld(t, s)
				w.sources = []string{"10.0.0.2"}
				if vip == vip6 {
					w.sources = []string{"2001:db8:a::2"}
				}
				w.configure(s)
				for n := range 8 {
					client := fmt.Sprintf("192.0.2.7:%d", 4000+n)
					if vip == vip6 {
						client = fmt.Sprintf("[2001:db8:9::7]:%d", 4000+n)
					}
					p := packettest.TCP(client, port(vip, "80")).Flags(syn)
					if proto == service.UDP {
						p = packettest.UDP(client, port(vip, "80"))
					}
					before := state(w.procs[0])
					x, c := pipeline.NewDryRun(0, 1, w.seed, w.tables, w.loads), p.Chunk()
					w.procs[0].DryRun(x, pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}, w.tables, w.now)
					if after := state(w.procs[0]); after != before {
						t.Fatalf("%s %s: dry run changed it: no longer\n%s\nbut\n%s", vip, mode, before, after)
					}
					from, to := addr(client), addr(vip)
					want := sched.Key{Client: [2]uint64{from.Hi, from.Lo}, VIP: [2]uint64{to.Hi, to.Lo}, ClientPort: uint16(4000 + n), VIPPort: 80, IPv4: vip == vip4}
					if !x.Picked || *x.Key() != want || !x.After.Known {
						t.Errorf("%s %s: picked %t by %+v, want %+v; connection known: %t", vip, mode, x.Picked, *x.Key(), want, x.After.Known)
					}
					o := w.in(p)
					if got := (outcome{x.Frame, 0}); got.String() != o.String() || !bytes.Equal(got.frame(), o.frame()) {
						t.Errorf("%s %s: %s, dry run %s\n%s\ndry run\n%s", vip, mode, o, got, packettest.Decode(o.frame()), packettest.Decode(got.frame()))
					}
				}
			}
		}
	}
}
