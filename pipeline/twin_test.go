package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// twin is the pipeline for nat and dr as anybody would write it: maps of what there is, and no
// thought of speed. It says what must become of a packet, but leaves the choice of a backend to the
// real one.
type twin struct {
	svcs  []svc
	now   uint32
	flows map[flowKey]*twinFlow
	// first: by flow of a service with adopt: when it sent its last first packet
	first map[flowKey]uint32
}

// flowKey is what a client's packet is known by.
type flowKey struct {
	svc    int // index into svcs
	client netip.AddrPort
	vport  uint16
}

type twinFlow struct {
	backend int // index into the service's backends
	bport   uint16
	state   conn.State
	expires uint32
	replied bool // the backend has sent a packet
	repeats int  // of the SYN to a backend that is gone, in dr
	fin     bool // nat: the client has sent FIN, and the backend has not
	doubted bool // since when:
	since   uint32
}

func (f *twinFlow) live(now uint32) bool { return int32(f.expires-now) > 0 }

// verdict is what may become of a packet: one of some verdicts, and for a forwarded one its
// addresses.
type verdict struct {
	any      []string
	src, dst netip.AddrPort // if forwarded
	host     int            // if not 0, likewise: the host of the backend
}

func (w *twin) find(k flowKey) *twinFlow {
	if f := w.flows[k]; f != nil && f.live(w.now) {
		return f
	}
	delete(w.flows, k)
	return nil
}

func (w *twin) serviceOf(dst netip.AddrPort, proto service.Protocol) int {
	for i := range w.svcs {
		s := &w.svcs[i]
		if netip.MustParseAddr(or(s.vip, vip4)) == dst.Addr() && s.ports.Contains(dst.Port()) && s.proto == proto && !s.gone {
			return i
		}
	}
	return -1
}

func (w *twin) host(s, b int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", w.svcs[s].backends[b].host))
}

// behind finds the nat flow of a packet between a backend and a client.
func (w *twin) behind(backend, client netip.AddrPort, proto service.Protocol) (flowKey, *twinFlow) {
	for k, f := range w.flows {
		s := &w.svcs[k.svc]
		if s.mode == service.NAT && s.proto == proto && k.client == client && f.bport == backend.Port() &&
			w.host(k.svc, f.backend) == backend.Addr() && f.live(w.now) {
			return k, f
		}
	}
	return flowKey{}, nil
}

// fromClient says what becomes of a client's packet. chosen tells the backend of the connection
// that the real pipeline has opened for it, -1 if it has none, and hashed the one that the
// scheduler names now.
func (w *twin) fromClient(src, dst netip.AddrPort, proto service.Protocol, flags, ttl uint8, chosen, hashed func(flowKey) int) verdict {
	i := w.serviceOf(dst, proto)
	if i < 0 {
		return verdict{any: []string{"no_connection"}}
	}
	s, k := &w.svcs[i], flowKey{i, src, dst.Port()}
	f := w.find(k)
	if f != nil && over(f, flags) {
		delete(w.flows, k)
		f = nil
	}
	if f != nil && (s.backends[f.backend].evict || f.state == conn.Ended) {
		if s.resets() && flags&(syn|rst|ack) != syn {
			w.evict(f)
			return evicted(flags)
		}
		delete(w.flows, k)
		f = nil
	}
	doubted := flags&rst != 0
	if f != nil && s.backends[f.backend].gone && flags&(syn|rst|ack) == syn {
		switch {
		case f.state == conn.Established && s.mode == service.DR:
			doubted = true
		case f.state == conn.Established && (f.replied || w.now-f.last() < 500):
			f.replied = false
		case f.state == conn.SynRecv && s.mode == service.DR && f.repeats < 5:
			f.repeats++
		case f.state != conn.SynRecv || !f.replied:
			delete(w.flows, k)
			f = nil
		}
	}
	host := 0
	if f == nil && s.adopt {
		at := hashed(k)
		if at < 0 {
			return verdict{any: []string{"reply", "no_backend"}}
		}
		host = s.backends[at].host
		if !w.opensByHash(k, proto, flags, chosen(k)) {
			if ttl <= 1 {
				return verdict{any: []string{"reply", "ttl_expired"}}
			}
			return verdict{[]string{"forward"}, src, dst, host}
		}
		f = &twinFlow{backend: at, bport: k.vport, state: conn.Established}
		if proto == service.UDP {
			f.state = conn.UDP
		}
		w.flows[k] = f
	}
	if f == nil {
		if proto == service.TCP && flags&(syn|rst) == rst {
			return verdict{any: []string{"no_connection"}}
		}
		if proto == service.TCP && flags&(syn|rst) != syn {
			return verdict{any: []string{"reply", "no_connection"}}
		}
		var v verdict
		if f, v = w.opened(i, k, flags, chosen(k)); f == nil {
			return v
		}
		w.flows[k] = f
	}
	direction := conn.Input
	if s.mode == service.DR {
		direction = conn.InputOnly
	}
	if s.mode == service.DR && f.state == conn.FinWait && flags == ack {
		f.state = conn.Established // all packets have data
	}
	w.advance(f, direction, flags, doubted)
	if ttl <= 1 {
		return verdict{any: []string{"reply", "ttl_expired"}}
	}
	if s.mode == service.DR {
		return verdict{[]string{"forward"}, src, dst, host}
	}
	return verdict{[]string{"forward"}, src, netip.AddrPortFrom(w.host(i, f.backend), f.bport), 0}
}

// opensByHash says whether a packet of a service with adopt, of a flow without a connection, opens
// one. A first packet opens none, and leaves a mark for half a minute to a minute. A segment
// without a mark is adopted, up to a limit: there, chosen says whether it was.
func (w *twin) opensByHash(k flowKey, proto service.Protocol, flags uint8, chosen int) bool {
	at, marked := w.first[k]
	certain, possible := marked && w.now-at < 1<<15, marked && w.now-at < 1<<16
	switch {
	case flags&rst != 0:
		return false
	case flags&syn != 0 || proto == service.UDP && !certain && (!possible || chosen < 0):
		w.first[k] = w.now
		return false
	}
	return certain || chosen >= 0
}

// resets says that the ends of the service's connections are told of their backend's eviction.
func (s *svc) resets() bool { return s.mode == service.NAT && s.proto == service.TCP }

// evict ends a flow that both ends are still to be told of.
func (w *twin) evict(f *twinFlow) {
	if f.state != conn.Ended {
		f.state, f.expires = conn.Ended, w.now+10_000
	}
}

// evicted is what becomes of a TCP packet with these flags.
func evicted(flags uint8) verdict {
	if flags&rst != 0 {
		return verdict{any: []string{"backend_gone"}}
	}
	return verdict{any: []string{"reply"}}
}

// look ends the flows of evicted backends, as the walk over the table does, and doubts. entry
// returns the real connection of a flow.
func (w *twin) look(entry func(flowKey) conn.Conn) {
	for k, f := range w.flows {
		s := &w.svcs[k.svc]
		switch {
		case !s.backends[f.backend].evict && f.state != conn.Ended || !f.live(w.now):
			w.endDoubt(f, s.mode, entry(k))
		case s.resets() && slices.Contains([]conn.State{conn.Established, conn.FinWait, conn.CloseWait, conn.Close, conn.Ended}, f.state):
			w.evict(f)
		default:
			delete(w.flows, k)
		}
	}
}

// endDoubt ends the doubt about a RST if the real one has ended it. A client of dr must have been
// silent since.
func (w *twin) endDoubt(f *twinFlow, mode service.Mode, c conn.Conn) {
	silent := f.doubted && w.now-f.since >= 3000 && int32(f.last()-f.since) <= 0
	if f.doubted = f.doubted && c.Flags&conn.Doubted != 0; mode == service.DR && silent && f.live(w.now) && c.State == conn.Close {
		f.state, f.expires = conn.Close, w.now+10_000
	}
}

// over says that a packet with these flags begins another connection than this one, which has
// ended.
func over(f *twinFlow, flags uint8) bool {
	if f.state == conn.Ended {
		return flags&(syn|rst) == syn
	}
	return (f.state == conn.TimeWait || f.state == conn.Close) && flags&(syn|rst|ack) == syn
}

// opened is the flow that a new connection to that backend makes, or what becomes of the packet
// without.
func (w *twin) opened(i int, k flowKey, flags uint8, chosen int) (*twinFlow, verdict) {
	s := &w.svcs[i]
	var usable, taken []int
	for j, b := range s.backends {
		if b.gone || b.drain || b.down || b.evict {
			continue
		}
		usable = append(usable, j)
		in, other := w.behind(netip.AddrPortFrom(w.host(i, j), w.backendPort(i, j, k)), k.client, s.proto)
		switch {
		case other == nil || s.mode != service.NAT:
		case over(other, flags):
			if j == chosen {
				delete(w.flows, in) // makes room
			}
		default:
			taken = append(taken, j)
		}
	}
	if chosen < 0 {
		v := verdict{any: []string{"no drop, but a connection"}}
		if len(taken) > 0 && len(taken) == len(usable) {
			v.any = append(v.any, "tuple_taken")
		}
		// sh offers no other backend if the one that it hashes to is unusable, as in IPVS.
		if len(usable) == 0 || s.sched == "sh" && len(usable) < len(s.backends) {
			v.any = append(v.any, "reply", "no_backend")
		}
		return nil, v
	}
	if !slices.Contains(usable, chosen) || slices.Contains(taken, chosen) {
		return nil, verdict{any: []string{fmt.Sprintf("one of backends %v but %v", usable, taken)}}
	}
	f := &twinFlow{backend: chosen, bport: w.backendPort(i, chosen, k)}
	if s.proto == service.UDP {
		f.state = conn.UDP
	}
	return f, verdict{}
}

func (w *twin) backendPort(i, b int, k flowKey) uint16 {
	if p := w.svcs[i].backends[b].port; p != 0 {
		return p
	}
	return k.vport
}

// fromBackend says what becomes of a packet that comes from behind.
func (w *twin) fromBackend(src, dst netip.AddrPort, proto service.Protocol, flags, ttl uint8) verdict {
	k, f := w.behind(src, dst, proto)
	if f == nil {
		only, oneOfMany := w.isBehind(src, proto)
		switch {
		case proto == service.TCP && only && flags&rst == 0:
			// There may be no more answers at that moment. A SYN is answered in state Idle only.
			return verdict{any: []string{"reply", "no_connection"}}
		case proto == service.UDP && only, oneOfMany && !only:
			return verdict{any: []string{"to kernel"}}
		}
		return verdict{any: []string{"no_connection"}}
	}
	if s := &w.svcs[k.svc]; s.backends[f.backend].evict && f.state == conn.Close || f.state == conn.Ended {
		w.evict(f)
		return evicted(flags)
	}
	before := f.state
	w.advance(f, conn.Output, flags, flags&rst != 0)
	if before == conn.SynRecv && f.state == conn.SynChallenged && f.replied {
		f.state = before
	}
	f.replied = true
	if ttl <= 1 {
		return verdict{any: []string{"reply", "ttl_expired"}}
	}
	return verdict{[]string{"forward"}, netip.AddrPortFrom(netip.MustParseAddr(or(w.svcs[k.svc].vip, vip4)), k.vport), dst, 0}
}

// isBehind reports whether a nat backend serves the port at the address: as its only one, or as one
// of many.
func (w *twin) isBehind(a netip.AddrPort, proto service.Protocol) (only, oneOfMany bool) {
	for i := range w.svcs {
		s := &w.svcs[i]
		for j, b := range s.backends {
			if s.proto == proto && s.mode == service.NAT && w.host(i, j) == a.Addr() {
				only = only || b.port == a.Port()
				oneOfMany = oneOfMany || b.port == 0
			}
		}
	}
	return only, oneOfMany
}

func (w *twin) advance(f *twinFlow, d conn.Direction, flags uint8, doubted bool) {
	open := f.state == conn.Established || f.state == conn.FinWait || f.state == conn.CloseWait
	if doubted && open {
		if !f.doubted {
			f.doubted, f.since = true, w.now
		}
		return
	}
	if flags&syn != 0 {
		f.doubted = false
	}
	before := f.state
	f.state = f.state.Next(d, flags)
	switch {
	case flags&syn != 0:
		f.fin = f.fin && d != conn.Output
	case flags&fin != 0 && d == conn.Input && f.state == conn.Established:
		f.fin = true
	case flags&fin != 0 && d == conn.Output && before == conn.Established && f.fin:
		f.state = conn.TimeWait
	}
	f.expires = w.now + conn.DefaultTimeoutsMs[f.state]
}

// last returns the time of the last segment that has restarted the timer.
func (f *twinFlow) last() uint32 { return f.expires - conn.DefaultTimeoutsMs[f.state] }

// count is how many flows there are, and how many of them are active.
func (w *twin) count() (live, active int) {
	for _, f := range w.flows {
		if f.live(w.now) {
			live++
			if f.state.Active() {
				active++
			}
		}
	}
	return live, active
}

// twinServices share backends, so that their flows can get into each other's way.
func twinServices() []svc {
	one := func(hosts ...int) (all []backend) {
		for _, h := range hosts {
			all = append(all, backend{host: h, port: 80})
		}
		return all
	}
	any := one(12, 13, 14)
	for i := range any {
		any[i].port = 0
	}
	return []svc{
		{vip: vip4, ports: service.Ports{First: 80, Last: 80}, proto: service.TCP, mode: service.NAT, backends: one(11, 12)},
		{vip: "198.51.100.11", ports: service.Ports{First: 80, Last: 80}, proto: service.TCP, mode: service.NAT, sched: "wlc", backends: one(11, 12, 13)},
		{vip: vip4, ports: service.AnyPort, proto: service.UDP, mode: service.NAT, sched: "sh", backends: any},
		{vip: "198.51.100.12", ports: service.Ports{First: 80, Last: 80}, proto: service.TCP, mode: service.DR, backends: one(12, 14)},
		{vip: "198.51.100.14", ports: service.Ports{First: 80, Last: 80}, proto: service.TCP, mode: service.DR, sched: "mh", adopt: true, backends: one(12, 13, 14)},
		{vip: "198.51.100.14", ports: service.Ports{First: 80, Last: 80}, proto: service.UDP, mode: service.DR, sched: "mh", adopt: true, backends: one(12, 13, 14)},
	}
}

// TestTwin replays random packets, pauses and reconfigurations on both.
func TestTwin(t *testing.T) {
	for seed := range uint64(steps(8)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			replay(t, rand.New(rand.NewPCG(seed, 0)), max(steps(15_000), 5_000))
		})
	}
}

func FuzzTwin(f *testing.F) {
	f.Add(uint64(1), uint16(100))
	f.Fuzz(func(t *testing.T, seed uint64, steps uint16) { replay(t, rand.New(rand.NewPCG(seed, 1)), int(steps)) })
}

func replay(t *testing.T, r *rand.Rand, steps int) {
	w := newWorlds(t, 1, 2048, twinServices()...)
	w.now = r.Uint32()
	m := &twin{svcs: slices.Clone(w.svcs), flows: make(map[flowKey]*twinFlow), first: make(map[flowKey]uint32)}
	for i := range m.svcs {
		m.svcs[i].backends = slices.Clone(m.svcs[i].backends)
	}
	for step := 0; step < steps && !t.Failed(); step++ {
		switch n := r.IntN(100); {
		case n < 3:
			w.reconfigure(r, m)
		case n < 10:
			w.pause(r)
		}
		m.now = w.now
		w.compare(r, m, step)
		if step%500 == 0 {
			w.compareCounts(m)
		}
	}
	w.compareCounts(m)
	w.sum()
}

// reconfigure drains, removes, evicts or returns a backend. Services keep their numbers.
func (w *world) reconfigure(r *rand.Rand, m *twin) {
	s := &m.svcs[r.IntN(len(m.svcs))]
	b := &s.backends[r.IntN(len(s.backends))]
	b.drain, b.gone, b.down, b.evict = r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(4) == 0, r.IntN(3) == 0
	next := slices.Clone(m.svcs)
	for i := range next {
		next[i].backends = slices.Clone(next[i].backends)
	}
	w.configure(next...)
	if r.IntN(2) == 0 { // else packets come first
		w.rstProbesAll()
		m.now = w.now
		m.look(w.entry)
	}
}

// pause lets time pass: often a little, at times as long as connections live.
func (w *world) pause(r *rand.Rand) {
	ms := []uint32{1, 100, 2_999, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000}[r.IntN(9)] + uint32(r.IntN(3)) - 1
	if r.IntN(2) == 0 {
		w.now += ms
		return
	}
	w.pass(min(ms, 20_000)) // with sweeps
}

// compare sends one random packet through both.
func (w *world) compare(r *rand.Rand, m *twin, step int) {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(3))}), uint16(4000+r.IntN(4)))
	proto, flags := service.TCP, []uint8{syn, syn, syn | ack, ack, ack, ack, fin | ack, fin | ack, rst, rst | ack}[r.IntN(10)]
	if r.IntN(3) == 0 {
		proto = service.UDP
	}
	ttl := uint8(64)
	if r.IntN(20) == 0 {
		ttl = 1
	}
	src, dst, side := client, netip.AddrPort{}, front
	if r.IntN(3) > 0 {
		vip := []string{vip4, vip4, "198.51.100.11", "198.51.100.12", "198.51.100.13", "198.51.100.14"}[r.IntN(6)]
		dst = netip.AddrPortFrom(netip.MustParseAddr(vip), uint16(80+r.IntN(8)/7))
	} else {
		src, dst, side = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(11 + r.IntN(4))}), uint16(80+r.IntN(8)/7)), client, back
	}
	p := packettest.UDP(src.String(), dst.String())
	if proto == service.TCP {
		p = packettest.TCP(src.String(), dst.String()).Flags(flags)
	} else {
		flags = 0
	}
	o := w.raw(0, side, p.TTL(ttl).Frame())
	var want verdict
	if side == front {
		want = m.fromClient(src, dst, proto, flags, ttl, w.chosen, w.hashed)
	} else {
		want = m.fromBackend(src, dst, proto, flags, ttl)
	}
	if !slices.Contains(want.any, o.String()) {
		w.t.Fatalf("step %d: %s %s -> %s, flags %#x, ttl %d: %s, want %v", step, proto, src, dst, flags, ttl, o, want.any)
	}
	if o.Verdict == pipeline.Forward {
		w.compareEnds(o, want, step)
	}
}

func (w *world) compareEnds(o outcome, want verdict, step int) {
	c := packettest.Place(o.frame())
	var m packet.Meta
	packet.Parse(c.Mem, c.Start, c.End, &m)
	src, dst := netip.AddrPortFrom(m.Src.Netip(), m.SrcPort), netip.AddrPortFrom(m.Dst.Netip(), m.DstPort)
	if src != want.src || dst != want.dst {
		w.t.Fatalf("step %d: leaves as %s -> %s, want %s -> %s", step, src, dst, want.src, want.dst)
	}
	if want.host != 0 && hostOf(o) != want.host {
		w.t.Fatalf("step %d: %s -> %s leaves to host %d, want %d", step, src, dst, hostOf(o), want.host)
	}
}

// hashed tells which of its service's backends the scheduler, a hash, names for the flow, -1 if
// none.
func (w *world) hashed(k flowKey) int {
	s := &w.tables.Services[k.svc+1]
	client := packet.AddrFrom(k.client.Addr())
	key := sched.Key{Client: [2]uint64{client.Hi, client.Lo}, ClientPort: k.client.Port(), VIPPort: k.vport, IPv4: true}
	if at := s.Scheduler.Pick(new(sched.State), w.loads, &key); at >= 0 {
		return int(s.Backends[at]) - w.firstBackend(k.svc)
	}
	return -1
}

// chosen tells which of its service's backends the flow has, -1 if there is no such flow.
func (w *world) chosen(k flowKey) int {
	return int(w.entry(k).Backend) - w.firstBackend(k.svc)
}

// entry returns the connection of the flow, with the backend before the service's first if there is
// none.
func (w *world) entry(k flowKey) conn.Conn {
	found := conn.Conn{Backend: uint32(w.firstBackend(k.svc) - 1)}
	t := w.procs[0].Table(4)
	for cursor, first := uint32(0), true; first || cursor != 0; first = false {
		cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
			if int(c.Service()) == k.svc+1 && c.ClientPort() == k.client.Port() && c.VIPPort() == k.vport &&
				t.Client(c).Netip() == k.client.Addr() && !c.Expired(w.now) {
				found = *c
			}
		})
	}
	return found
}

// firstBackend is the number of a service's first backend.
func (w *world) firstBackend(i int) int {
	n := 1
	for _, s := range w.svcs[:i] {
		n += len(s.backends)
	}
	return n
}

// compareCounts: both have as many connections, and as many active ones, but for those in state
// Idle. To packets these are as good as none.
func (w *world) compareCounts(m *twin) {
	w.t.Helper()
	live, active := m.count()
	gotActive := 0
	all := slices.DeleteFunc(w.entries(0, 4), func(c conn.Conn) bool { return c.State == conn.Idle })
	for _, c := range all {
		if c.Counted() {
			gotActive++
		}
	}
	if len(all) != live || gotActive != active {
		w.t.Errorf("%d connections, %d active; want %d, %d", len(all), gotActive, live, active)
	}
}
