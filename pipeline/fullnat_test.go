package pipeline_test

import (
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

func newFullnatLab(t *testing.T, worker, workers, connections int) *fullnatLab {
	hops := nexthop.Build(
		[]nexthop.PortInfo{{MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Up: true}, {MAC: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500, Up: true}},
		[]nexthop.Route{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("203.0.113.1")}, {Prefix: netip.MustParsePrefix("192.0.2.0/24"), Port: 1}},
		[]nexthop.Neighbour{{Addr: netip.MustParseAddr("203.0.113.1"), MAC: [6]byte{2, 9}}, {Addr: netip.MustParseAddr("192.0.2.11"), Port: 1, MAC: [6]byte{2, 11}}})
	backend := pipeline.Backend{Addr: packet.AddrFrom(netip.MustParseAddrPort(fnBackend).Addr()), Port: 8080, Mode: service.FullNAT, Live: true, Up: true}
	link, reason := hops.Lookup(backend.Addr)
	if reason != counter.None {
		t.Fatal(reason)
	}
	backend.Link = *link
	scheduler, err := sched.New("rr", []sched.Candidate{{ID: 1, Weight: 1, LastWeight: 1, Up: true, Key: netip.MustParseAddrPort(fnBackend)}}, [16]byte{})
	if err != nil {
		t.Fatal(err)
	}
	all := new(pipeline.PortSet)
	all.Add(1024, 65535)
	return &fullnatLab{
		t: t, batch: new(pipeline.Batch), nowMs: 1,
		proc: pipeline.New(pipeline.Options{
			Worker: worker, Workers: workers, Connections: connections,
			Seed: &flow.Seed{A: 11, B: 13}, Loads: counter.NewLoads(workers, pipeline.MaxBackends),
			Mem4: tableMemory(4, connections), Mem6: tableMemory(6, connections),
		}),
		tables: pipeline.NewTables(
			[]pipeline.Service{{}, {
				Addr: packet.AddrFrom(netip.MustParseAddrPort(fnVIP).Addr()), Ports: service.Ports{First: 80, Last: 80}, Proto: 6, Live: true,
				Scheduler: scheduler, Pool: []uint32{1}, TimeoutsMs: conn.DefaultTimeoutsMs,
			}},
			[]pipeline.Backend{{}, backend}, hops,
			[]pipeline.Source{{Addr: packet.AddrFrom(netip.MustParseAddr(fnSource)), Ports: all}},
			[][]pipeline.SourceRef{nil, {{Source: 0, Pool: 0, Live: true}}}),
	}
}

// tableMemory gives zeroed memory that begins at a cache line, as the engine's pages do.
func tableMemory(family, connections int) []byte {
	// Allocations of whole pages are aligned to pages.
	return make([]byte, (pipeline.TableBytes(family, connections)+8191)&^8191)
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

// TestFullNATUsesEveryPort opens as many connections from one source address to one backend as there are
// ports, sees the next one dropped under its name, and gets all ports back (scenario O07).
func TestFullNATUsesEveryPort(t *testing.T) {
	const ports = 65536 - 1024
	l := newFullnatLab(t, 0, 1, 2*ports+100)
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
	v4, _ := l.proc.Live()
	if v4 != 2*ports {
		t.Errorf("%d table entries, want two for each of %d connections", v4, ports)
	}
	l.nowMs += conn.DefaultTimeoutsMs[conn.SynRecv] + 1
	for range 20 { // a reverse entry goes with its connection, wherever the sweep stands
		l.nowMs += 1000
		l.proc.Tick(l.tables, l.nowMs, 8000, 1<<30)
	}
	if v4, _ := l.proc.Live(); v4 != 0 {
		t.Fatalf("%d entries live on", v4)
	}
	for i := range ports {
		if f, _ := l.send(packettest.TCP(fnClient(i), fnVIP).Flags(packet.SYN)); f.Verdict != pipeline.Forward {
			t.Fatalf("connection %d the second time: %v", i, f.Reason)
		}
	}
}

// TestFullNATWorkersDontCollide has two workers with the same source address and backend: each sends from
// ports of its own, and hands replies to the other's ports over.
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
