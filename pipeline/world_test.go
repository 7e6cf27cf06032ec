package pipeline_test

import (
	"fmt"
	"net/netip"
	"slices"
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

// TCP flags.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// Ports of the world: towards the clients' router and towards the backends.
const (
	front = 0
	back  = 1
)

// Ends in the world.
const (
	client4, client6 = "192.0.2.7:40000", "[2001:db8:9::7]:40000"
	vip4, vip6       = "198.51.100.10", "2001:db8:1::10"
	web4, web6       = "198.51.100.10:80", "[2001:db8:1::10]:80"
	own4, own6       = "10.0.0.1", "2001:db8:a::1"
	router4, router6 = "203.0.113.1", "2001:db8:ffff::1"
	transit4         = "203.0.113.99" // a router far away that sends ICMP errors
	transit6         = "2001:db8:77::1"
)

var (
	frontMAC  = [6]byte{2, 0, 0, 0, 0, 0xf0}
	backMAC   = [6]byte{2, 0, 0, 0, 0, 0xb0}
	routerMAC = [6]byte{2, 0, 0, 0, 0xff, 1}
)

func hostMAC(n int) [6]byte { return [6]byte{2, 0, 0, 0, 0xbb, byte(n)} }

// backend is one of a svc: host 10.0.0.N or 2001:db8:a::N, or the address given.
type backend struct {
	host   int
	addr   string // instead of host
	port   uint16
	mode   service.Mode // 0: the service's
	drain  bool         // weight 0
	weight uint32       // 0: 1
	down   bool
	evict  bool // weight 0, and its connections end
	gone   bool // no longer configured
	sorry  bool // takes connections beyond limits only
	most   uint32
	least  uint32 // of connections
	v6     bool   // in the other family than the service: tun
}

// svc is a service, with defaults for what is left out: TCP port 80 of vip4, nat, rr.
type svc struct {
	vip       string
	ports     service.Ports
	proto     service.Protocol
	mode      service.Mode
	sched     string
	persistMs uint32
	own       pipeline.Ownership
	moved     bool
	idleMs    uint32 // timeout of UDP and of established TCP; 0: IPVS's
	silent    bool   // idle connections are not reset
	gone      bool
	unowned   bool // the kernel does not have vip
	echo      bool
	lists     pipeline.Lists
	limits    pipeline.Limits
	adopt     bool
	earlier   *pipeline.Choice
	unproven  uint32 // 0: all of the capacity
	backends  []backend
	sorry     []backend // at most one, not in use
}

// nat is a service in NAT mode with backends 11, 12 and 13 at port 8080.
func nat() svc {
	return svc{backends: []backend{{host: 11, port: 8080}, {host: 12, port: 8080}, {host: 13, port: 8080}}}
}

// silent returns a service that removes idle connections without notice.
func silent(s svc) svc {
	s.silent = true
	return s
}

// network is what lies around; its zero value is a world in which all is well.
type network struct {
	mtu, frontMTU uint16     // 0: 1500
	silent        int        // backend host without a MAC address
	noRouter      bool       // the clients' router has no MAC address
	frontDown     bool       //
	backDown      bool       //
	lost          netip.Addr // destination of a blackhole route
	vlan          uint16     // tag towards the backends
}

// world is one or several processors with their tables and clock.
type world struct {
	t      *testing.T
	procs  []*pipeline.Processor
	loads  *counter.Loads
	turns  *counter.Turns
	tables *pipeline.Tables
	batch  *pipeline.Batch
	now    uint32
	net    network
	svcs   []svc
	lists  uint64 // version of their lists

	sourceCounts *counter.Sources
	sources      []string
	ports        *snat.PortSet // that fullnat may send from
	pools        map[poolKey][]*snat.Pool
	seed         *flow.Seed

	slowOnly bool // no fast path

	probeFrames []pipeline.Frame // of zeros: rstProbes lends them, which is cheaper than new ones
}

// poolKey is what the SNAT pools of a world are for: backends with the same endpoint share them.
type poolKey struct {
	addr  packet.Addr
	port  uint16
	proto uint8
}

// adoptPerSecond is how many connections each worker may adopt per second.
const adoptPerSecond = 100

// capacity is the capacity of a world's connection tables for each worker.
const capacity = 256

func newWorld(t *testing.T, services ...svc) *world { return newWorlds(t, 1, capacity, services...) }

// ids is the number of services, and of backends, that a world has room for: fewer than an engine,
// because a test makes many worlds.
const ids = 1024

func newWorlds(t *testing.T, workers, connections int, services ...svc) *world {
	t.Helper()
	w := &world{
		t: t, loads: counter.NewLoads(workers, ids), turns: counter.NewTurns(workers, ids), batch: new(pipeline.Batch), now: 1_000_000,
		sources: []string{"10.0.0.2"}, ports: portSet(1024, 1024+99), pools: make(map[poolKey][]*snat.Pool), seed: &flow.Seed{A: 0x243f6a8885a308d3, B: 0x13198a2e03707344},
	}
	all := workers * connections
	entries := counter.NewCapacity(workers, all)
	for i := range workers {
		w.procs = append(w.procs, pipeline.New(pipeline.Options{
			Worker: i, Workers: workers, Capacity: entries, Seed: w.seed, Loads: w.loads, Turns: w.turns, AdoptPerSecond: adoptPerSecond * workers,
			Mem4: memory(pipeline.TableBytes(4, workers, all)), Mem6: memory(pipeline.TableBytes(6, workers, all)),
		}))
	}
	w.configure(services...)
	return w
}

// memory is large enough for Go to align it to a page.
func memory(bytes int) []byte { return make([]byte, max(bytes, 64<<10)) }

// configure replaces the services. Those at the same place keep their numbers, and so do their
// backends.
func (w *world) configure(services ...svc) {
	w.t.Helper()
	if slices.ContainsFunc(services, func(s svc) bool { return s.limits.SourceConnections|s.limits.SourceNewPerSecond != 0 }) && w.sourceCounts == nil {
		w.sourceCounts = counter.NewSources()
	}
	if !slices.EqualFunc(w.svcs, services, func(a, b svc) bool { return a.lists == b.lists }) {
		w.lists++
	}
	w.svcs = services
	hops := w.net.hops()
	all, backends := make([]pipeline.Service, 1), make([]pipeline.Backend, 1)
	pools, translated := [][]snat.Ref{nil}, false
	for _, s := range services {
		out := s.service()
		var candidates []sched.Candidate
		for i := range s.backends {
			b := s.backend(i, hops)
			id := uint32(len(backends))
			backends = append(backends, b)
			ref := snat.Ref{Source: 0, Proto: out.Proto, Configured: true}
			key := poolKey{b.Addr, b.Port, out.Proto}
			if w.pools[key] == nil && b.Mode == service.FullNAT {
				w.pools[key] = ref.NewPools(nil, w.ports, len(w.procs), 0)
			}
			ref.Pools = w.pools[key]
			pools = append(pools, []snat.Ref{ref})
			translated = translated || b.Mode == service.FullNAT
			if !b.Configured || s.gone {
				out.Former = append(out.Former, id)
				continue
			}
			if s.backends[i].sorry {
				out.Sorry = []uint32{id}
				continue
			}
			weight := max(s.backends[i].weight, 1)
			if s.backends[i].drain || s.backends[i].evict {
				weight = 0
			}
			out.Backends = append(out.Backends, id)
			candidates = append(candidates, sched.Candidate{
				ID: id, Weight: weight, LastWeight: max(weight, 1), Up: b.Up, Key: netip.AddrPortFrom(b.Addr.Netip(), b.Port),
			})
		}
		var err error
		if out.Scheduler, err = sched.New(or(s.sched, "rr"), candidates, [16]byte{}); err != nil {
			w.t.Fatal(err)
		}
		for i := range s.sorry {
			sorry := s
			sorry.backends = s.sorry
			out.Sorry = append(out.Sorry, uint32(len(backends)))
			backends, pools = append(backends, sorry.backend(i, hops)), append(pools, nil)
		}
		all = append(all, out)
	}
	if !translated {
		w.publish(pipeline.NewTables(all, backends, hops, nil, nil, w.ours()))
		return
	}
	var sources []snat.Source
	for _, a := range w.sources {
		sources = append(sources, snat.Source{Addr: addr(a), Ports: w.ports})
	}
	w.publish(pipeline.NewTables(all, backends, hops, sources, pools, w.ours()))
}

// ours returns the addresses of the world's host, and the broadcast address of its subnet.
func (w *world) ours() []packet.Addr {
	return []packet.Addr{addr(own4), addr(own6), addr("10.0.255.255")}
}

// publish makes tables those of the world.
func (w *world) publish(t *pipeline.Tables) {
	t.ListsVersion, t.SourceCounts = w.lists, w.sourceCounts
	w.tables = t
}

func portSet(first, last uint16) *snat.PortSet {
	s := new(snat.PortSet)
	s.Add(first, last)
	return s
}

func (s *svc) service() pipeline.Service {
	if s.ports == (service.Ports{}) {
		s.ports = service.Ports{First: 80, Last: 80}
	}
	if s.proto == 0 {
		s.proto = service.TCP
	}
	if s.mode == 0 {
		s.mode = service.NAT
	}
	timeouts := conn.DefaultTimeoutsMs
	if s.idleMs != 0 {
		timeouts[conn.Established], timeouts[conn.UDP] = s.idleMs, s.idleMs
	}
	return pipeline.Service{
		Addr: addr(or(s.vip, vip4)), Ports: s.ports, Proto: uint8(s.proto), Ownership: s.own, Moved: s.moved, Configured: !s.gone,
		TimeoutsMs: timeouts, PersistMs: s.persistMs, ResetIdle: !s.silent, Unowned: s.unowned, Echo: s.echo, Lists: s.lists, Limits: s.limits,
		Adopt: s.adopt, Earlier: s.earlier, Unproven: s.unproven,
	}
}

func (s *svc) backend(i int, hops *nexthop.Table) pipeline.Backend {
	b := s.backends[i]
	form := "10.0.0.%d"
	if packettest.Addr(or(s.vip, vip4)).Is6() != b.v6 {
		form = "2001:db8:a::%d"
	}
	a := packettest.Addr(or(b.addr, fmt.Sprintf(form, b.host)))
	out := pipeline.Backend{
		Addr: packet.AddrFrom(a), Source: addr(own4), Port: b.port, Mode: b.mode, Configured: !b.gone, Up: !b.down, Evict: b.evict,
		MaxConnections: b.most, MinConnections: b.least,
	}
	if a.Is6() {
		out.Source = addr(own6)
	}
	if out.Mode == 0 {
		out.Mode = s.mode
	}
	if hop, ok := hops.NextHop(out.Addr); ok && hop.Addr == a && hop.Port == back {
		out.Network = 1
	}
	link, reason := hops.Lookup(out.Addr)
	if out.Unreach = reason; reason == counter.None {
		out.Link = *link
	}
	return out
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func addr(s string) packet.Addr { return packet.AddrFrom(packettest.Addr(s)) }

// hops is the next-hop table: clients behind a router, backends on-link.
func (n *network) hops() *nexthop.Table {
	mtu, frontMTU := n.mtu, n.frontMTU
	if mtu == 0 {
		mtu = 1500
	}
	if frontMTU == 0 {
		frontMTU = 1500
	}
	ports := []nexthop.PortInfo{
		{MAC: frontMAC, MTU: frontMTU, Up: !n.frontDown, Name: "front"},
		{MAC: backMAC, MTU: mtu, Up: !n.backDown, Name: "back"},
	}
	routes := []nexthop.Route{
		{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Port: back, VLAN: n.vlan},
		{Prefix: netip.MustParsePrefix("2001:db8:a::/64"), Port: back, VLAN: n.vlan},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(router4), Port: front},
		{Prefix: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr(router6), Port: front},
	}
	if n.lost.IsValid() {
		routes = append(routes, nexthop.Route{Prefix: netip.PrefixFrom(n.lost, n.lost.BitLen()), Kind: nexthop.Blackhole})
	}
	var neighbours []nexthop.Neighbour
	if !n.noRouter {
		for _, a := range []string{router4, router6} {
			neighbours = append(neighbours, nexthop.Neighbour{Addr: netip.MustParseAddr(a), Port: front, MAC: routerMAC})
		}
	}
	for host := 11; host < 30; host++ {
		if host == n.silent {
			continue
		}
		for _, form := range []string{"10.0.0.%d", "2001:db8:a::%d"} {
			neighbours = append(neighbours, nexthop.Neighbour{
				Addr: netip.MustParseAddr(fmt.Sprintf(form, host)), Port: back, VLAN: n.vlan, MAC: hostMAC(host),
			})
		}
	}
	return nexthop.Build(ports, routes, neighbours)
}

// change changes the network and makes new tables.
func (w *world) change(f func(n *network)) {
	w.t.Helper()
	f(&w.net)
	w.configure(w.svcs...)
}

// outcome is what became of one frame.
type outcome struct {
	pipeline.Frame
	owner int // worker that gave the final verdict
}

func (o outcome) frame() []byte { return o.Mem[o.Start:o.End] }

// String names the verdict as tests write it: "forward", "reply", "hand over", "to kernel", "wait",
// or the drop reason.
func (o outcome) String() string {
	return [...]string{o.Reason.String(), "forward", "reply", "hand over", "to kernel", "wait"}[o.Verdict]
}

// raw sends a frame to a worker and follows it from worker to worker until its end.
func (w *world) raw(worker, port int, frame []byte) outcome {
	w.t.Helper()
	c := packettest.Place(frame)
	f := pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End, Port: uint8(port)}
	for range len(w.procs) + 2 {
		w.batch.Frames[0] = f
		if p := w.procs[worker]; w.slowOnly {
			p.ProcessSlow(w.batch, w.tables, w.now)
		} else {
			p.Process(w.batch, 1, w.tables, w.now)
		}
		f = w.batch.Frames[0]
		if f.Verdict != pipeline.HandOver {
			return outcome{f, worker}
		}
		if int(f.Worker) == worker || int(f.Worker) >= len(w.procs) {
			w.t.Fatalf("worker %d hands a frame to worker %d", worker, f.Worker)
		}
		worker = int(f.Worker)
	}
	w.t.Fatalf("frame goes round for ever:\n%s", packettest.Decode(frame))
	return outcome{}
}

// in sends a packet from the side of the clients.
func (w *world) in(p packettest.Packet) outcome { w.t.Helper(); return w.raw(0, front, p.Frame()) }

// out sends a packet from the side of the backends.
func (w *world) out(p packettest.Packet) outcome { w.t.Helper(); return w.raw(0, back, p.Frame()) }

// expect compares a frame that leaves with the one wanted.
func (w *world) expect(o outcome, verdict string, port int, want packettest.Packet) {
	w.t.Helper()
	if o.String() != verdict {
		w.t.Errorf("verdict %s, want %s", o, verdict)
		return
	}
	if int(o.Port) != port {
		w.t.Errorf("leaves by port %d, want %d", o.Port, port)
	}
	if diff := packettest.Diff(want.Frame(), o.frame()); diff != "" {
		w.t.Error(diff)
	}
}

// ends checks the verdict of a frame that does not matter otherwise.
func (w *world) ends(o outcome, verdict string) {
	w.t.Helper()
	if o.String() != verdict {
		w.t.Errorf("verdict %s, want %s", o, verdict)
	}
}

// toHost puts on a packet the addresses that lead to backend host n.
func toHost(p packettest.Packet, n int) packettest.Packet { return p.MACs(backMAC, hostMAC(n)) }

// toClient puts on a packet the addresses that lead to the clients' router.
func toClient(p packettest.Packet) packettest.Packet { return p.MACs(frontMAC, routerMAC) }

// returned puts on a packet the addresses with which it goes back where the question came from.
func returned(p packettest.Packet) packettest.Packet {
	return p.MACs(packettest.OurMAC, packettest.NeighbourMAC)
}

// entries lists the connections of a family at a worker.
func (w *world) entries(worker, family int) (all []conn.Conn) {
	t := w.procs[worker].Table(family)
	for cursor, first := uint32(0), true; first || cursor != 0; first = false {
		cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
			if !c.IsTemplate() && !c.Expired(w.now) {
				all = append(all, *c)
			}
		})
	}
	return all
}

// only is the one connection that there is.
func (w *world) only() conn.Conn {
	w.t.Helper()
	var all []conn.Conn
	for worker := range w.procs {
		all = append(append(all, w.entries(worker, 4)...), w.entries(worker, 6)...)
	}
	if len(all) != 1 {
		w.t.Fatalf("%d connections, want 1", len(all))
	}
	return all[0]
}

// flushRequests calls ask for the neighbour requests of the first worker.
func (w *world) flushRequests(ask func(netip.Addr)) {
	w.procs[0].NeighbourRequests.Flush(func(a packet.Addr) { ask(a.Netip()) })
}

// pass lets time pass, with the housekeeping of each worker in between.
func (w *world) pass(ms uint32) {
	for ms > 0 {
		step := min(ms, 1000)
		w.now, ms = w.now+step, ms-step
		for _, p := range w.procs {
			p.Housekeep(w.tables, w.now, step, 1<<20)
		}
	}
}

// sum adds the counters of all workers and checks that they account for every frame, and every
// connection.
func (w *world) sum() (all counter.Packets) {
	w.t.Helper()
	live := 0
	for _, p := range w.procs {
		all.Add(p.Packets)
		for _, family := range []int{4, 6} {
			t := p.Table(family)
			for cursor, first := uint32(0), true; first || cursor != 0; first = false {
				cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
					if !c.IsTemplate() {
						live++
					}
				})
			}
		}
	}
	if all.Rx != all.Forwarded+all.Replied+all.ToKernel+all.Waiting+all.Dropped() || all.HandedIn != all.HandedOut {
		w.t.Errorf("the counters don't add up: %+v", all)
	}
	if all.ConnOpened-all.ConnClosed != uint64(live) {
		w.t.Errorf("%d connections opened and %d closed, but %d are there", all.ConnOpened, all.ConnClosed, live)
	}
	w.checkLoads(live)
	w.checkCensus()
	return all
}

// checkCensus checks the numbers of proven and unproven connections.
func (w *world) checkCensus() {
	w.t.Helper()
	proven, unproven := 0, make(map[uint32]int)
	for _, p := range w.procs {
		for _, family := range []int{4, 6} {
			t := p.Table(family)
			for cursor, first := uint32(0), true; first || cursor != 0; first = false {
				cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
					switch {
					case c.IsTemplate() || c.Ended():
					case c.Flags&conn.Proven != 0:
						proven++
					default:
						unproven[c.Service()]++
					}
				})
			}
		}
	}
	got := pipeline.Census(w.procs)
	for id := range w.tables.Services {
		if got.Unproven[id] != unproven[uint32(id)] {
			w.t.Errorf("service %d: counted %d unproven connections, but %d are there", id, got.Unproven[id], unproven[uint32(id)])
		}
	}
	if got.Proven != proven {
		w.t.Errorf("counted %d proven connections, but %d are there", got.Proven, proven)
	}
}

// checkLoads: what the schedulers see is as many connections as there are.
func (w *world) checkLoads(live int) {
	w.t.Helper()
	sum := 0
	for id := range w.tables.Backends {
		l := w.loads.Of(uint32(id))
		sum += int(l.Active) + int(l.Inactive)
	}
	if sum != live {
		w.t.Errorf("the loads add up to %d connections, but %d are there", sum, live)
	}
}

// steps returns how many steps a random test takes: n, or a sixteenth of it with -short.
func steps(n int) int {
	if testing.Short() {
		return max(n/16, 1)
	}
	return n
}
