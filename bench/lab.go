package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// lab is the pipeline of one worker with frames as its input: one TCP service with three backends.
type lab struct {
	family  int
	mode    service.Mode
	proc    *pipeline.Processor
	tables  *pipeline.Tables
	batch   *pipeline.Batch
	chunks  [][]byte
	next    int // chunk that is filled next
	frame   []byte
	maps    [][]byte
	nowMs   uint32
	size    int             // frames per batch
	times   []time.Duration // of each batch
	owned   []uint32        // flows that this worker owns; nil: all
	chosen  []way           // by number of the flow
	reply   bool            // put writes packets from backends
	backend []byte          // of a backend; they differ in the last byte, as fullnat's sources do
	space   int             // of connections
	random  bool            // clients have random addresses
	clients []uint32        // numbers of such flows to use in turn; nil: all
}

// way is where the pipeline sends a flow: the last bytes of the addresses, and the client port that
// the backend sees.
type way struct {
	backend, source uint8
	port            uint16
}

// crew has what the workers of one process share.
type crew struct {
	workers int
	seed    *flow.Seed
	loads   *counter.Loads
	turns   *counter.Turns
	room    *counter.Capacity  // nil until the first lab made it
	own     pipeline.Ownership // of all services
	proto   service.Protocol   // of the service
	tables  *pipeline.Tables   // nil until the first lab made them
}

func newCrew(workers int) *crew {
	return &crew{
		workers: workers, proto: service.TCP,
		seed:  &flow.Seed{A: 0x9e3779b97f4a7c15, B: 0xbf58476d1ce4e5b9},
		loads: counter.NewLoads(workers, pipeline.MaxBackends),
		turns: counter.NewTurns(workers, pipeline.MaxServices),
	}
}

const (
	chunkSize = 4096
	headroom  = 256
	// chunksInUse is the number of chunks that are used in turn: as many as a receive ring of that
	// size keeps in the cache.
	chunksInUse = 512
)

// newLab returns the lab of a single worker.
func newLab(family int, mode service.Mode, connections, batch int) (*lab, error) {
	return newWorkerLab(newCrew(1), 0, family, mode, connections, batch)
}

// newWorkerLab returns the lab of one worker of a crew. Each has space for so many connections, the
// same for all of a crew.
func newWorkerLab(c *crew, worker, family int, mode service.Mode, connections, batch int) (*lab, error) {
	l := &lab{family: family, mode: mode, space: connections, batch: new(pipeline.Batch), size: batch, nowMs: 1}
	mem, err := l.memory(chunksInUse * chunkSize)
	if err != nil {
		return nil, err
	}
	for i := range chunksInUse {
		l.chunks = append(l.chunks, mem[i*chunkSize:(i+1)*chunkSize])
	}
	var tables [2][]byte
	for i, f := range []int{4, 6} {
		if tables[i], err = l.memory(pipeline.TableBytes(f, 1, connections)); err != nil {
			return nil, err
		}
	}
	if c.room == nil {
		c.room = counter.NewCapacity(c.workers, c.workers*connections)
	}
	ports, err := l.portMemory()
	if err != nil {
		return nil, err
	}
	l.proc = pipeline.New(pipeline.Options{
		Worker: worker, Workers: c.workers, Capacity: c.room,
		Seed: c.seed, Loads: c.loads, Turns: c.turns, AdoptPerSecond: 1_000_000,
		Mem4: tables[0], Mem6: tables[1], Ports: ports, Fragments: 4096,
	})
	if c.tables == nil {
		if c.tables, err = l.config(c.own, c.proto); err != nil {
			return nil, err
		}
	}
	l.tables = c.tables
	l.template()
	return l, nil
}

// portMemory returns the memory for fullnat's ports, enough for a million; nil without fullnat.
func (l *lab) portMemory() (*snat.Memory, error) {
	if l.mode != service.FullNAT {
		return nil, nil
	}
	ports := snat.NewMemory(false)
	for kind, bytes := range ports.Lacks(1000) {
		mem, err := l.memory(bytes)
		if err != nil {
			return nil, err
		}
		ports.Add(kind, mem)
	}
	return ports, nil
}

func (l *lab) memory(bytes int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, (bytes+1<<21-1)&^(1<<21-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory of %d bytes: %w", bytes, err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	l.maps = append(l.maps, mem)
	return mem, nil
}

func (l *lab) close() {
	for _, m := range l.maps {
		_ = unix.Munmap(m)
	}
}

// addresses returns the lab's VIP, the i-th backend and our own address.
func (l *lab) addresses() (vip netip.Addr, backend func(i int) netip.Addr, own netip.Addr) {
	if l.family == 4 {
		return netip.MustParseAddr("198.51.100.10"),
			func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}) },
			netip.MustParseAddr("192.0.2.1")
	}
	return netip.MustParseAddr("2001:db8::10"),
		func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", 11+i)) },
		netip.MustParseAddr("2001:db8:1::1")
}

const backends = 3

// config returns the tables: two ports, clients behind a gateway at the first, backends on-link at
// the second.
func (l *lab) config(own pipeline.Ownership, proto service.Protocol) (*pipeline.Tables, error) {
	vip, backend, ours := l.addresses()
	everywhere, inside, gateway := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("203.0.113.1")
	if l.family == 6 {
		everywhere, inside, gateway = netip.MustParsePrefix("::/0"), netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParseAddr("2001:db8:2::1")
	}
	neighbours := []nexthop.Neighbour{{Addr: gateway, Port: 0, MAC: [6]byte{2, 0, 0, 0, 0, 1}}}
	all := make([]pipeline.Backend, 1+backends)
	candidates := make([]sched.Candidate, backends)
	s := pipeline.Service{
		Addr: packet.AddrFrom(vip), Ports: service.Ports{First: 80, Last: 80}, Proto: uint8(proto),
		Configured: true, Ownership: own, TimeoutsMs: conn.DefaultTimeoutsMs,
	}
	for i := range backends {
		neighbours = append(neighbours, nexthop.Neighbour{Addr: backend(i), Port: 1, MAC: [6]byte{2, 0, 0, 0, 1, byte(i)}})
	}
	hops := nexthop.Build(
		[]nexthop.PortInfo{{MAC: [6]byte{2, 0, 0, 0, 0, 9}, MTU: 1500, Up: true, Name: "front"}, {MAC: [6]byte{2, 0, 0, 0, 1, 9}, MTU: 1500, Up: true, Name: "back"}},
		[]nexthop.Route{{Prefix: everywhere, Via: gateway, Port: 0}, {Prefix: inside, Port: 1}},
		neighbours)
	for i := range backends {
		b := &all[1+i]
		*b = pipeline.Backend{Addr: packet.AddrFrom(backend(i)), Source: packet.AddrFrom(ours), Port: 80, Mode: l.mode, Configured: true, Up: true}
		link, reason := hops.Lookup(b.Addr)
		if reason != counter.None {
			return nil, fmt.Errorf("backend %v: %v", backend(i), reason)
		}
		b.Link = *link
		s.Backends = append(s.Backends, uint32(1+i))
		candidates[i] = sched.Candidate{ID: uint32(1 + i), Weight: 1, LastWeight: 1, Up: true, Key: netip.AddrPortFrom(backend(i), 80)}
	}
	var err error
	if s.Scheduler, err = sched.New("rr", candidates, [16]byte{}); err != nil {
		return nil, err
	}
	if l.mode != service.FullNAT {
		return pipeline.NewTables([]pipeline.Service{{}, s}, all, hops, nil, nil, nil), nil
	}
	sources, pools := l.pools(all[backends].Addr.Netip().Next())
	return pipeline.NewTables([]pipeline.Service{{}, s}, all, hops, sources, pools, nil), nil
}

// rebuild makes tables that follow from changed services.
func (l *lab) rebuild() {
	t := l.tables
	l.tables = pipeline.NewTables(t.Services, t.Backends, t.Hops, t.Sources, t.Pools, nil)
}

// pools returns fullnat's local addresses, from first on, as many as the connections need, and the
// SNAT pools of each backend.
func (l *lab) pools(first netip.Addr) (sources []snat.Source, pools [][]snat.Ref) {
	ports := new(snat.PortSet)
	ports.Add(1024, 65535)
	for n := 0; n < l.space; n += backends * ports.Len() {
		sources = append(sources, snat.Source{Addr: packet.AddrFrom(first), Ports: ports})
		first = first.Next()
	}
	pools = make([][]snat.Ref, 1+backends)
	for i := range backends {
		for j := range sources {
			ref := snat.Ref{Source: uint8(j), Proto: uint8(service.TCP), Configured: true}
			ref.Pools = ref.NewPools(nil, ports, 1, 0)
			pools[1+i] = append(pools[1+i], ref)
		}
	}
	return sources, pools
}

// flowsPerAddress is the number of flows from one client address.
const flowsPerAddress = 50000

// put writes the packet of one flow into the next chunk and into the batch.
func (l *lab) put(i int, flowNumber uint32, tcpFlags byte) {
	mem := l.chunks[l.next]
	if l.next++; l.next == len(l.chunks) {
		l.next = 0
	}
	f := mem[headroom : headroom+len(l.frame)]
	copy(f, l.frame)
	l.address(f, flowNumber)
	f[l.l4()+13] = tcpFlags
	if l.reply {
		l.turn(f, l.chosen[flowNumber])
	}
	frame := &l.batch.Frames[i]
	frame.Mem, frame.Start, frame.End = mem, headroom, headroom+len(f)
	frame.Port, frame.Hops, frame.Noted = 0, 0, false
}

// run feeds packets of random flows in batches and returns the time of the pipeline per packet, in
// ns. Only the pipeline is timed, each batch by itself. Batches during which the machine ran
// something else
// - the slowest hundredth - are left out of the mean.
func (l *lab) run(flows, packets int) float64 {
	random := rand.New(rand.NewPCG(1, uint64(flows)))
	l.times = l.times[:0]
	for done := 0; done < packets; done += l.size {
		for i := range l.size {
			number := uint32(random.Uint64() >> 32 * uint64(flows) >> 32)
			if l.owned != nil {
				number = l.owned[number]
			}
			l.put(i, number, packet.ACK)
		}
		l.timed(l.size)
	}
	return l.mean()
}

// timed runs the batch of n frames through the pipeline and keeps the time.
func (l *lab) timed(n int) {
	start := time.Now()
	l.proc.Process(l.batch, n, l.tables, l.nowMs)
	l.times = append(l.times, time.Since(start))
}

// mean returns the time per packet, in ns, of the batches since times was emptied.
func (l *lab) mean() float64 {
	slices.Sort(l.times)
	l.times = l.times[:max(1, len(l.times)*99/100)]
	var sum time.Duration
	for _, t := range l.times {
		sum += t
	}
	return float64(sum.Nanoseconds()) / float64(len(l.times)*l.size)
}

// own selects as many flows that this worker owns, and opens them.
func (l *lab) own(c *crew, worker, flows int) error {
	l.owned = make([]uint32, 0, flows)
	for number := uint32(0); len(l.owned) < flows; number++ {
		l.put(0, number, packet.SYN)
		f := &l.batch.Frames[0]
		var m packet.Meta
		if reason := packet.Parse(f.Mem, f.Start, f.End, &m); reason != counter.None {
			return fmt.Errorf("flow %d: %v", number, reason)
		}
		if flow.Owner(c.seed.Hash(m.Src, m.SrcPort, m.Proto), c.workers) != worker {
			continue
		}
		l.owned = append(l.owned, number)
		l.proc.Process(l.batch, 1, l.tables, l.nowMs)
		if f.Verdict != pipeline.Forward {
			return fmt.Errorf("flow %d was not opened: %v", number, f.Reason)
		}
	}
	return nil
}

// open makes connections for flows [0, flows) and establishes them. They are proven: in nat and
// fullnat by the answer of the backend, in tun and dr by the last packet, more than a second later.
func (l *lab) open(flows int) error {
	l.chosen = make([]way, flows)
	for _, flags := range []byte{packet.SYN, packet.SYN | packet.ACK, packet.ACK, packet.ACK} {
		l.reply = flags&packet.SYN != 0 && flags&packet.ACK != 0
		if l.reply && !l.mode.RepliesThroughUs() {
			continue
		}
		if err := l.churn(0, flows, 0, flags); err != nil {
			return err
		}
		l.nowMs += 700
	}
	return nil
}

// send sends the next packet of n flows from number from on, and notes where those of clients go.
func (l *lab) send(from, n int, tcpFlags byte) error {
	for i := range n {
		l.put(i, uint32(from+i), tcpFlags)
	}
	l.timed(n)
	for i := range n {
		f := &l.batch.Frames[i]
		if f.Verdict != pipeline.Forward {
			return fmt.Errorf("a packet of flow %d was not forwarded: %v", from+i, f.Reason)
		}
		if from+i < len(l.chosen) && !l.reply {
			l4 := f.Start + l.l4()
			l.chosen[from+i] = way{f.Mem[l4-1], f.Mem[l4-len(l.backend)-1], binary.BigEndian.Uint16(f.Mem[l4:])}
		}
	}
	return nil
}

// churn sends the next packets of n flows from number from on, one for each of the flags. It
// spreads the flows evenly over so many milliseconds of the pipeline's time, with a tick in each.
func (l *lab) churn(from, n int, overMs uint32, tcpFlags ...byte) error {
	startMs, to := l.nowMs, from+n
	for at := from; at < to; {
		n := min(l.size, to-at)
		for _, flags := range tcpFlags {
			if err := l.send(at, n, flags); err != nil {
				return err
			}
		}
		at += n
		now := startMs + uint32(uint64(overMs)*uint64(at-from)/uint64(to-from))
		if now != l.nowMs {
			start := time.Now()
			l.proc.Housekeep(l.tables, now, now-l.nowMs, pipeline.HousekeepingBudget)
			l.times[len(l.times)-1] += time.Since(start)
			l.nowMs = now
		}
	}
	return nil
}
