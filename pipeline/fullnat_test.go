package pipeline_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// fullnatLab is one worker with one fullnat service, one source address and one backend.
type fullnatLab struct {
	t      *testing.T
	proc   *pipeline.Processor
	tables *pipeline.Tables
	batch  *pipeline.Batch
	nowMs  uint32
}

const (
	fnVIP     = "198.51.100.10:80"
	fnSource  = "192.0.2.1"
	fnBackend = "192.0.2.11:8080"
)

// fullnatSetup is what a lab's tables are made from.
type fullnatSetup struct {
	services []pipeline.Service
	backends []pipeline.Backend
	pools    [][]snat.Ref
	ports    *snat.PortSet // of the source
	start    uint16        // port from which on the pools allocate
}

// newFullnatLab makes one of so many workers, with what the test changes in its setup.
func newFullnatLab(t *testing.T, worker, workers, connections int, changes ...func(*fullnatSetup)) *fullnatLab {
	hops := nexthop.Build(
		[]nexthop.PortInfo{{MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Up: true}, {MAC: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500, Up: true}},
		[]nexthop.Route{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("203.0.113.1")}, {Prefix: netip.MustParsePrefix("192.0.2.0/24"), Port: 1}},
		[]nexthop.Neighbour{{Addr: netip.MustParseAddr("203.0.113.1"), MAC: [6]byte{2, 9}}, {Addr: netip.MustParseAddr("192.0.2.11"), Port: 1, MAC: [6]byte{2, 11}}})
	backend := pipeline.Backend{Addr: packet.AddrFrom(netip.MustParseAddrPort(fnBackend).Addr()), Port: 8080, Mode: service.FullNAT, Configured: true, Up: true}
	link, reason := hops.Lookup(backend.Addr)
	if reason != counter.None {
		t.Fatal(reason)
	}
	backend.Link = *link
	scheduler, err := sched.New("rr", []sched.Candidate{{ID: 1, Weight: 1, LastWeight: 1, Up: true, Key: netip.MustParseAddrPort(fnBackend)}}, [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	setup := fullnatSetup{
		services: []pipeline.Service{{}, {
			Addr: packet.AddrFrom(netip.MustParseAddrPort(fnVIP).Addr()), Ports: service.Ports{First: 80, Last: 80}, Proto: 6, Configured: true,
			Scheduler: scheduler, Backends: []uint32{1}, TimeoutsMs: conn.DefaultTimeoutsMs,
		}},
		backends: []pipeline.Backend{{}, backend},
		pools:    [][]snat.Ref{nil, {{Source: 0, Proto: 6, Configured: true}}},
		ports:    portSet(1024, 65535),
	}
	for _, change := range changes {
		change(&setup)
	}
	for _, refs := range setup.pools {
		for i := range refs {
			refs[i].Pools = refs[i].NewPools(nil, setup.ports, workers, setup.start)
		}
	}
	return &fullnatLab{
		t: t, batch: new(pipeline.Batch), nowMs: 1,
		proc: pipeline.New(pipeline.Options{
			Worker: worker, Workers: workers, Capacity: counter.NewCapacity(workers, workers*connections),
			Seed: &flow.Seed{A: 11, B: 13}, Loads: counter.NewLoads(workers, ids), Turns: counter.NewTurns(workers, ids),
			Mem4: tableMemory(4, connections), Mem6: tableMemory(6, connections),
		}),
		tables: pipeline.NewTables(setup.services, setup.backends, hops,
			[]snat.Source{{Addr: packet.AddrFrom(netip.MustParseAddr(fnSource)), Ports: setup.ports}}, setup.pools, nil),
	}
}

// tableMemory gives zeroed memory that begins at a cache line, as the engine's pages do.
func tableMemory(family, connections int) []byte {
	// Allocations of whole pages are aligned to pages.
	return make([]byte, (pipeline.TableBytes(family, 1, connections)+8191)&^8191)
}

// send puts one packet through and returns the frame as it left.
func (l *fullnatLab) send(p packettest.Packet) (*pipeline.Frame, []byte) {
	c := p.Chunk()
	l.batch.Frames[0] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}
	l.proc.Process(l.batch, 1, l.tables, l.nowMs)
	f := &l.batch.Frames[0]
	return f, f.Mem[f.Start:f.End]
}

// source reads source address and port of a frame.
func source(t *testing.T, frame []byte) netip.AddrPort {
	t.Helper()
	mem := append(make([]byte, 256), frame...)
	var m packet.Meta
	if r := packet.Parse(mem, 256, len(mem), &m); r != counter.None {
		t.Fatalf("what left does not parse: %v", r)
	}
	return netip.AddrPortFrom(m.Src.Netip(), m.SrcPort)
}

func fnClient(i int) string { return fmt.Sprintf("10.%d.%d.%d:4000", i>>16, i>>8&255, i&255) }

// TestFullNATUsesEveryPort opens as many connections from one source address to one backend as
// there are ports. The next one is dropped with a reason of its own, and later all ports are free
// again (O07).
func TestFullNATUsesEveryPort(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 64,512 connections three times")
	}
	const ports = 65536 - 1024
	l := newFullnatLab(t, 0, 1, ports+100)
	clients := make(map[netip.AddrPort]int, ports)
	for i := range ports {
		f, out := l.send(packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN))
		if f.Verdict != pipeline.Forward {
			t.Fatalf("connection %d: %v", i, f.Reason)
		}
		from := source(t, out)
		if other, taken := clients[from]; taken {
			t.Fatalf("connections %d and %d share %v", other, i, from)
		}
		clients[from] = i
	}
	l.proc.ProveAll() // so that none gives way
	if f, _ := l.send(packettest.TCP(fnClient(ports), fnVIP).Flags(packet.SYN)); f.Reason != counter.SNATExhausted {
		t.Fatalf("one connection too many: verdict %d, %v", f.Verdict, f.Reason)
	}
	for local, i := range clients {
		f, out := l.send(packettest.TCP(fnBackend, local.String()).Flags(packet.SYN | packet.ACK))
		if f.Verdict != pipeline.Forward {
			t.Fatalf("reply to %v: %v", local, f.Reason)
		}
		if got, want := source(t, out), netip.MustParseAddrPort(fnVIP); got != want {
			t.Fatalf("reply to connection %d comes from %v, want %v", i, got, want)
		}
	}
	v4, _ := l.proc.Entries()
	if v4 != ports {
		t.Errorf("%d table entries for %d connections", v4, ports)
	}
	l.nowMs += conn.DefaultTimeoutsMs[conn.SynRecv] + 1
	for range 20 {
		l.nowMs += 1000
		l.proc.Housekeep(l.tables, l.nowMs, 8000, 1<<30)
	}
	if v4, _ := l.proc.Entries(); v4 != 0 {
		t.Fatalf("%d entries live on", v4)
	}
	for i := range ports {
		if f, _ := l.send(packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN)); f.Verdict != pipeline.Forward {
			t.Fatalf("connection %d the second time: %v", i, f.Reason)
		}
	}
}

// TestFullNATWorkersDontCollide: two workers with the same source address and backend use different
// ports, and each hands replies to the other's ports over.
func TestFullNATWorkersDontCollide(t *testing.T) {
	labs := []*fullnatLab{newFullnatLab(t, 0, 2, 10_000), newFullnatLab(t, 1, 2, 10_000)}
	owner := make(map[netip.AddrPort]int)
	for i := range 2000 {
		syn := packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN)
		w := 0
		f, out := labs[0].send(syn)
		if f.Verdict == pipeline.HandOver {
			w = int(f.Worker)
			f, out = labs[w].send(syn)
		}
		if f.Verdict != pipeline.Forward {
			t.Fatalf("connection %d: %v", i, f.Reason)
		}
		from := source(t, out)
		if _, taken := owner[from]; taken {
			t.Fatalf("%v taken twice", from)
		}
		owner[from] = w
	}
	for local, w := range owner {
		reply := packettest.TCP(fnBackend, local.String()).Flags(packet.SYN | packet.ACK)
		if f, _ := labs[1-w].send(reply); f.Verdict != pipeline.HandOver || int(f.Worker) != w {
			t.Fatalf("reply to %v at worker %d: verdict %d, worker %d", local, 1-w, f.Verdict, f.Worker)
		}
		if f, _ := labs[w].send(reply); f.Verdict != pipeline.Forward {
			t.Fatalf("reply to %v at its owner: %v", local, f.Reason)
		}
	}
}

// fnCard is a card of as many queues as there are workers, set up as drivers do.
func fnCard(workers int) *flow.RSS {
	r := &flow.RSS{Queues: make([]uint16, 128), TCP4: true}
	for i := range 40 {
		r.Key = append(r.Key, byte(i*i*37+11*i+5))
	}
	for i := range r.Queues {
		r.Queues[i] = uint16(i % workers)
	}
	return r
}

// byCard has the ports shared out by the card's hash, and clients' packets processed where they
// arrive.
func byCard(t *testing.T, card *flow.RSS, workers int) func(*fullnatSetup) {
	owners := flow.NewPortOwners(card, 6, true, workers, func(queue int) int { return queue })
	if owners == nil {
		t.Fatal("the card does not serve")
	}
	backend, local := netip.MustParseAddrPort(fnBackend), packet.AddrFrom(netip.MustParseAddr(fnSource))
	return func(s *fullnatSetup) {
		s.services[1].Ownership = pipeline.ByReceiver
		r := &s.pools[1][0]
		r.Owners = owners
		r.Base = owners.Base(packet.AddrFrom(backend.Addr()), backend.Port(), local)
	}
}

// queueOf is the queue that the card delivers a packet to.
func queueOf(card *flow.RSS, src, dst netip.AddrPort) int {
	hash := card.Hash(packet.AddrFrom(src.Addr()), packet.AddrFrom(dst.Addr()), src.Port(), dst.Port())
	return int(card.Queues[int(hash)%len(card.Queues)])
}

// TestFullNATFollowsRSS opens connections until every port of every worker is in use. No port is
// used twice, and RSS delivers each reply to the worker that owns the port, so that none is handed
// over.
func TestFullNATFollowsRSS(t *testing.T) {
	t.Parallel()
	ports := max(steps(65536-1024), 8192)
	backend := netip.MustParseAddrPort(fnBackend)
	for _, workers := range []int{2, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			card, taken := fnCard(workers), make(map[netip.AddrPort]bool, ports)
			for w := range workers {
				l := newFullnatLab(t, w, workers, 2*ports, byCard(t, card, workers), func(s *fullnatSetup) { s.ports = portSet(1024, uint16(1023+ports)) })
				mine := 0
				for ; ; mine++ {
					f, out := l.send(packettest.TCP(fnClient(mine), fnVIP).Flags(packet.SYN))
					if l.proc.Packets.Displaced > 0 { // it took the port of the oldest
						break
					}
					from := source(t, out)
					if f.Verdict != pipeline.Forward || taken[from] || queueOf(card, backend, from) != w {
						t.Fatalf("worker %d sends from %v: verdict %d, taken before: %v, replies to queue %d",
							w, from, f.Verdict, taken[from], queueOf(card, backend, from))
					}
					taken[from] = true
					if mine%16 > 0 {
						continue
					}
					if f, _ := l.send(packettest.TCP(fnBackend, from.String()).Flags(packet.SYN | packet.ACK)); f.Verdict != pipeline.Forward {
						t.Fatalf("reply to %v: verdict %d, %v", from, f.Verdict, f.Reason)
					}
				}
				if l.proc.Packets.HandedOut != 0 || mine < ports/workers*95/100 {
					t.Errorf("worker %d: %d handed over, %d ports of %d", w, l.proc.Packets.HandedOut, mine, ports)
				}
			}
			if len(taken) != ports {
				t.Errorf("%d ports of %d were used", len(taken), ports)
			}
		})
	}
}

// TestFullNATOtherWorker: replies and ICMP errors that arrive at another worker than the RSS
// settings at the start said are handed over to the owner, and dropped there if they have no
// connection.
func TestFullNATOtherWorker(t *testing.T) {
	card := fnCard(2)
	labs := []*fullnatLab{newFullnatLab(t, 0, 2, 1000, byCard(t, card, 2)), newFullnatLab(t, 1, 2, 1000, byCard(t, card, 2))}
	for w, l := range labs {
		_, out := l.send(packettest.TCP(fnClient(w), fnVIP).Flags(packet.SYN))
		local := source(t, out)
		for name, p := range map[string]packettest.Packet{
			"reply": packettest.TCP(fnBackend, local.String()).Flags(packet.SYN | packet.ACK),
			"error": packettest.ICMP("192.0.2.99", fnSource, 3, 1, 0, packettest.TCP(local.String(), fnBackend).IP()),
		} {
			if f, _ := labs[1-w].send(p); f.Verdict != pipeline.HandOver || int(f.Worker) != w || f.Hops != 1 {
				t.Errorf("%s for worker %d at the other: verdict %d, worker %d", name, w, f.Verdict, f.Worker)
			}
			if f, _ := l.send(p); f.Verdict != pipeline.Forward {
				t.Errorf("%s for worker %d at home: verdict %d, %v", name, w, f.Verdict, f.Reason)
			}
		}
		for from, want := range map[string]pipeline.Verdict{fnBackend: pipeline.Reply, "192.0.2.77:1": pipeline.Drop} {
			for port := range 4 {
				l.nowMs++ // one more answer
				at := fmt.Sprintf("%s:%d", fnSource, 50_000+port)
				c := packettest.TCP(from, at).Flags(packet.ACK).Chunk()
				l.batch.Frames[0] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Hops: 1}
				l.proc.Process(l.batch, 1, l.tables, l.nowMs)
				if f := &l.batch.Frames[0]; f.Verdict != want {
					t.Errorf("%s to %s, handed over: verdict %d, %v", from, at, f.Verdict, f.Reason)
				}
			}
		}
	}
}

// withAnyPort adds a service of many ports with a backend on the same host at the port that the
// client asked for.
func withAnyPort(s *fullnatSetup) {
	backend := s.backends[1]
	backend.Port = 0
	wide := s.services[1]
	wide.Ports = service.Ports{First: 8000, Last: 8100}
	wide.Backends = []uint32{2}
	s.services = append(s.services, wide)
	s.backends = append(s.backends, backend)
	s.pools = append(s.pools, []snat.Ref{{Source: 0, Proto: 6, Configured: true}})
}

// dryRun returns what would happen to a packet.
func (l *fullnatLab) dryRun(p packettest.Packet) (*pipeline.DryRun, []byte) {
	x, c := pipeline.NewDryRun(0, 1, &flow.Seed{A: 11, B: 13}, l.tables, counter.NewLoads(1, ids)), p.Chunk()
	l.proc.DryRun(x, pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}, l.tables, l.nowMs)
	return x, x.Frame.Mem[x.Frame.Start:x.Frame.End]
}

// TestFullNATDryRun: dry runs of a reply to a connection, of one to an expired connection that was
// not swept yet, of a new connection to a host with ports in use from another pool, and of a reply
// of a backend of any port.
func TestFullNATDryRun(t *testing.T) {
	l := newFullnatLab(t, 0, 1, 400_000, withAnyPort)
	var locals []string
	for i := range 5000 {
		_, out := l.send(packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN))
		locals = append(locals, source(t, out).String())
	}
	same := func(what string, p packettest.Packet) (sent *pipeline.Frame) {
		x, inDryRun := l.dryRun(p)
		f, out := l.send(p)
		if x.Frame.Verdict != f.Verdict || f.Verdict == pipeline.Drop && x.Frame.Reason != f.Reason || !bytes.Equal(inDryRun, out) {
			t.Fatalf("%s: verdict %d, %v\n%s\ndry run: verdict %d, %v\n%s", what, f.Verdict, f.Reason, packettest.Decode(out),
				x.Frame.Verdict, x.Frame.Reason, packettest.Decode(inDryRun))
		}
		return f
	}
	if f := same("reply", packettest.TCP(fnBackend, locals[4000]).Flags(packet.SYN|packet.ACK)); f.Verdict != pipeline.Forward {
		t.Errorf("a reply: %v", f.Reason)
	}
	for i, flags := range []uint8{packet.FIN | packet.ACK, packet.RST | packet.ACK} {
		same("end", packettest.TCP(fnBackend, locals[100+i]).Flags(flags))
	}
	// of these the last one opens a new connection
	for _, flags := range []uint8{packet.ACK, packet.RST, packet.SYN} {
		if f := same("client's port comes back", packettest.TCP(fnClient(200), fnVIP).Flags(flags)); f.Verdict != pipeline.Forward {
			t.Errorf("client's port: %v", f.Reason)
		}
	}
	_, out := l.send(packettest.TCP(fnClient(9000), "198.51.100.10:8001").Flags(packet.SYN))
	answer := packettest.TCP("192.0.2.11:8001", source(t, out).String()).Flags(packet.SYN | packet.ACK)
	if f := same("answer of any port", answer); f.Verdict != pipeline.Forward {
		t.Errorf("an answer from the port that was asked for: %v", f.Reason)
	}
	answer = packettest.TCP("192.0.2.11:8002", source(t, out).String()).Flags(packet.SYN | packet.ACK)
	if f := same("answer of another port", answer); f.Reason != counter.NoConnection {
		t.Errorf("an answer from another port: verdict %d, %v", f.Verdict, f.Reason)
	}
	// its pool begins with ports that the other pool has in use towards the host's port 8080
	for range 3 {
		if f := same("new", packettest.TCP(fnClient(9001), "198.51.100.10:8080").Flags(packet.SYN)); f.Reason != counter.TupleTaken {
			t.Errorf("so many ports are in use: %v", f.Reason)
		}
	}
	l.nowMs += conn.DefaultTimeoutsMs[conn.SynRecv] + 1
	for i := 0; i < len(locals); i += 97 {
		if f := same("late reply", packettest.TCP(fnBackend, locals[i]).Flags(packet.ACK)); f.Verdict != pipeline.Reply {
			t.Fatalf("a reply to a connection that is over: %v", f.Reason)
		}
	}
}

// TestSourceAsClient: no client of a nat service has an address that fullnat sends from. Its
// backend could not distinguish such a connection from one of fullnat.
func TestSourceAsClient(t *testing.T) {
	for _, slowOnly := range []bool{true, false} {
		w := newWorld(t, svc{mode: service.FullNAT, backends: []backend{{host: 11, port: 80}}},
			svc{vip: "198.51.100.11", mode: service.NAT, backends: []backend{{host: 11, port: 80}}})
		w.slowOnly = slowOnly
		w.ends(w.in(packettest.TCP("10.0.0.2:1024", "198.51.100.11:80").Flags(syn)), "martian")
		w.ends(w.in(packettest.TCP(client4, web4).Flags(syn)), "forward") // as 10.0.0.2:1024
		w.ends(w.in(packettest.TCP("10.0.0.2:1024", "198.51.100.11:80").Flags(syn)), "martian")
	}
}

// TestFullNATAnyPort: one backend host is configured twice, with its own port and with the port
// that the client asked for. No worker uses a tuple of local address, local port, host and port
// twice.
func TestFullNATAnyPort(t *testing.T) {
	t.Parallel()
	card, flows := fnCard(2), steps(20_000)
	for name, sharing := range map[string]func(*fullnatSetup){"by card": byCard(t, card, 2), "by number": func(*fullnatSetup) {}} {
		t.Run(name, func(t *testing.T) {
			byReceiver := func(s *fullnatSetup) {
				for id := range s.services {
					s.services[id].Ownership = pipeline.ByReceiver
				}
			}
			used := make(map[netip.AddrPort]bool)
			opened := [2]int{}
			for w := range 2 {
				l := newFullnatLab(t, w, 2, 200_000, sharing, withAnyPort, byReceiver)
				for i := range flows {
					vip := fnVIP
					if i%2 == 1 {
						vip = "198.51.100.10:8080"
					}
					f, out := l.send(packettest.TCP(fnClient(i), vip).Flags(packet.SYN))
					if f.Verdict != pipeline.Forward {
						if f.Reason != counter.SNATExhausted && f.Reason != counter.TupleTaken {
							t.Fatalf("connection %d: %v", i, f.Reason)
						}
						continue
					}
					if l.proc.Packets.Displaced > 0 {
						break // all ports are in use
					}
					if from := source(t, out); used[from] {
						t.Fatalf("%v is used twice", from)
					} else {
						used[from] = true
					}
					opened[w]++
				}
			}
			if opened[0] < flows/2 || opened[1] < flows/2 {
				t.Errorf("%v connections", opened)
			}
		})
	}
}
