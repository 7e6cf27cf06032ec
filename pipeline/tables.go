package pipeline

import (
	"slices"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
	"sluice/pipeline/servicemap"
	"sluice/pipeline/snat"
)

// Limits of the id spaces. Ids are array indexes and stay with their service or backend across
// reloads. A backend id means one service, backend and mode for as long as connections have it,
// since they outlive the configuration of a backend and the fast path rewrites by the id alone. Id
// 0 is never used. The limits are about twice those of a configuration (conf.MaxServices,
// conf.MaxBackends): the rest is for connections of former ones.
const (
	MaxServices = 1 << 17
	MaxBackends = 1 << 19
)

// Service is a service as the packet path sees it.
type Service struct {
	Addr       packet.Addr
	Ports      service.Ports
	Proto      uint8
	Ownership  Ownership
	Moved      bool            // its ownership changed: other workers may have its connections
	Configured bool            // configured now; false: only existing connections use it
	Scheduler  sched.Scheduler // of candidates in the order of Backends
	Backends   []uint32        // ids, latest added first, as in IPVS
	Former     []uint32        // ids of backends that only existing connections use
	Sorry      []uint32        // id of the sorry server, also while it is not in Backends
	TimeoutsMs [conn.StateCount]uint32
	PersistMs  uint32 // 0: no persistence
	Unowned    bool   // the kernel does not have Addr: all that is sent to it comes here
	Echo       bool   // if Unowned: Addr answers ICMP echo requests, now
	ResetIdle  bool   // both ends of an established connection that expires are reset (idle.go)
	// Adopt: a client's TCP segment without a connection goes to the backend that Scheduler, a
	// hash, names (adopt.go). All backends are of mode tun or dr.
	Adopt    bool
	Earlier  *Choice // what was chosen before, by a service with Adopt; nil: no change lately
	Unproven uint32  // part of the capacity for unproven connections (pressure.go); 0: all of it
	Lists    Lists   // of clients that are denied
	Limits   Limits
	limited  bool   // it, or one of its backends, has limits
	marks    bool   // first packets need no entry (first_packets.go)
	oneWay   bool   // all backends are of mode tun or dr
	identity uint64 // see Identity
	guarded  bool   // has Lists
	fastOpen bool   // the fast path opens its connections to backends with a fast entry
}

// Choice is a scheduler that chooses by a hash, and what it chooses from.
type Choice struct {
	Scheduler sched.Scheduler
	Backends  []uint32 // ids
}

// Backend is a backend as the packet path sees it.
type Backend struct {
	Addr    packet.Addr
	Source  packet.Addr  // tun: source of the outer header
	Link    rewrite.Link // next hop towards Addr, valid if Unreach is None
	Port    uint16       // 0: the port that the client asked for
	Mode    service.Mode
	Unreach counter.Reason // why Link cannot be used; None if it can
	// maxLength: longest packet that fits Link with the overhead of the mode, in bytes; 0 without a
	// Link
	maxLength uint16
	// Network: a number of the connected network that Addr is in; 0: none. Hosts of one network
	// reach each other without a router.
	Network    uint16
	Configured bool // configured now; false: only existing connections use it
	Up         bool // it passes its checks
	// Evict ends its connections: TCP is reset in nat and fullnat, UDP flows move to another
	// backend (eviction.go). The scheduler must not choose it: it is down, its weight is 0, or it
	// is not configured.
	Evict bool
	// MaxConnections: it takes no new ones from so many on, until it has fewer than MinConnections,
	// or than three quarters if that is 0; 0: no limit
	MaxConnections, MinConnections uint32
	lower                          uint32 // of both
}

// Tables is everything that the packet path reads and does not write: immutable, built by the
// control plane, published by one atomic pointer, and loaded once per batch.
type Tables struct {
	Services    []Service // by service id
	Backends    []Backend // by backend id
	Hops        *nexthop.Table
	Sources     []snat.Source // fullnat's local addresses; one without Ports is not in use
	Pools       [][]snat.Ref  // by backend id: sources and pools of its fullnat connections
	fastEntries []fastEntry   // by backend id
	services    servicemap.Map
	sticky      servicemap.Endpoints // endpoints of backends of services owned ByAddress -> 1
	sources     servicemap.Endpoints // fullnat's local addresses -> index+1 into Sources
	origins     origins
	// strays: endpoints of nat and fullnat backends -> what becomes of packets from there without a
	// connection
	strays servicemap.Endpoints
	// replyEndpointAt: endpoint of a fullnat backend -> index+1 into replyEndpoints
	replyEndpointAt servicemap.Endpoints
	replyEndpoints  []replyEndpoint
	portsByHash     bool     // some SNAT ports are divided by the hash of a NIC
	anyPort         bool     // some fullnat backend serves any port
	pools           int      // of each worker, at least: those that backends share count again
	moved           bool     // some service has Moved
	plainReplies    bool     // all packets from backends are owned ByFlow
	evicted         []uint32 // ids of evicted backends, ascending
	// vips: the addresses of Unowned services -> index into echoes, plus one
	vips    servicemap.Endpoints
	echoes  []int // by VIP, the number of its services with Echo
	guarded bool  // some service has lists
	// SourceCounts: of services with limits for each source; nil: there are none. It is written by
	// all workers.
	SourceCounts *counter.Sources
	// ListsVersion: connections of clients that are denied end when it changes.
	ListsVersion uint64
}

// NewTables indexes services, backends and fullnat's sources. The slices belong to the result
// afterwards. sources and pools are nil without fullnat. ours are the addresses that no client has
// because this host or all hosts of a subnet have them.
func NewTables(services []Service, backends []Backend, hops *nexthop.Table, sources []snat.Source, pools [][]snat.Ref, ours []packet.Addr) *Tables {
	t := &Tables{Services: services, Backends: backends, Hops: hops, Sources: sources, Pools: pools}
	t.vips = servicemap.NewEndpoints(len(services))
	t.sources = servicemap.NewEndpoints(len(sources))
	for i, s := range sources {
		if s.Ports != nil {
			t.sources.Put(s.Addr, 0, 0, uint32(i+1))
		}
	}
	t.indexReplyEndpoints()
	for i := range backends {
		be := &backends[i]
		be.derive()
		if be.Evict {
			t.evicted = append(t.evicted, uint32(i))
		}
	}
	t.buildFastEntries()
	t.services = servicemap.New(len(services))
	t.sticky, t.strays = servicemap.NewEndpoints(len(backends)), servicemap.NewEndpoints(len(backends))
	for id := range services {
		s := &services[id]
		s.identify()
		s.guarded = s.Lists != Lists{}
		t.guarded = t.guarded || s.guarded
		t.moved = t.moved || s.Moved
		if s.Unproven == 0 {
			s.Unproven = counter.Whole
		}
		if s.Configured {
			t.services.Add(s.Addr, s.Ports, s.Proto, uint32(id))
		}
		if s.Configured && s.Unowned {
			t.addVIP(s)
		}
	}
	t.eachServer(func(s *Service, _ uint32, be *Backend) { t.indexServer(s, be) })
	t.indexOrigins(ours)
	t.plainReplies = t.sticky.Len() == 0 && t.sources.Len() == 0
	return t
}

// addVIP adds the address of an Unowned service.
func (t *Tables) addVIP(s *Service) {
	if !t.isVIP(s.Addr) {
		t.echoes = append(t.echoes, 0)
		t.vips.Put(s.Addr, 0, 0, uint32(len(t.echoes)))
	}
	if s.Echo {
		*t.echoesOf(s.Addr)++
	}
}

// isVIP reports whether the address is an Unowned service's.
func (t *Tables) isVIP(a packet.Addr) bool { return t.vips.Get(a, 0, 0) != 0 }

// echoesOf returns how many of a VIP's services have Echo.
func (t *Tables) echoesOf(vip packet.Addr) *int { return &t.echoes[t.vips.Get(vip, 0, 0)-1] }

// answersEcho reports whether the VIP answers ICMP echo requests.
func (t *Tables) answersEcho(vip packet.Addr) bool { return *t.echoesOf(vip) > 0 }

// indexServer notes what the endpoint of a service's backend means for packets from it.
func (t *Tables) indexServer(s *Service, be *Backend) {
	if s.Ownership == ByAddress {
		t.sticky.Put(be.Addr, be.Port, s.Proto, 1)
	}
	switch {
	case s.Proto == uint8(service.TCP) && be.Mode.RepliesThroughUs() && be.Port != 0:
		t.strays.Put(be.Addr, be.Port, s.Proto, strayAnswered)
	case be.Mode == service.NAT:
		t.strays.Put(be.Addr, be.Port, s.Proto, strayToKernel)
	}
}

// Update returns tables that differ from t in Scheduler, Echo and the order of Backends of some
// services, and in Up and Evict of some backends, which are all that was changed. Those lists of
// ids are ascending, and each changed backend is of a changed service or of none that is
// configured. All else is shared with t. services is a changed copy of t's, and so is backends
// unless no backend has changed; they belong to the result afterwards. The cost does not depend on
// the number of services and backends, but for copies of arrays.
func (t *Tables) Update(services []Service, backends []Backend, changedServices, changedBackends []uint32) *Tables {
	next := *t
	next.Services, next.Backends = services, backends
	next.updateEchoes(t, changedServices)
	if len(changedBackends) == 0 {
		return &next
	}
	next.evicted = nil
	for _, id := range t.evicted {
		if _, changed := slices.BinarySearch(changedBackends, id); !changed {
			next.evicted = append(next.evicted, id)
		}
	}
	for _, id := range changedBackends {
		backends[id].derive()
		if backends[id].Evict {
			next.evicted = append(next.evicted, id)
		}
	}
	slices.Sort(next.evicted)
	next.fastEntries = slices.Clone(t.fastEntries)
	served := make([]bool, len(backends))
	for _, id := range changedServices {
		next.fillFastEntries(&services[id], served)
	}
	return &next
}

// updateEchoes sets echoes after the Echo of some services may have changed.
func (t *Tables) updateEchoes(before *Tables, changed []uint32) {
	copied := false
	for _, id := range changed {
		is, was := &t.Services[id], &before.Services[id]
		if !is.Unowned || is.Echo == was.Echo {
			continue
		}
		if !copied {
			t.echoes, copied = slices.Clone(t.echoes), true
		}
		if is.Echo {
			*t.echoesOf(is.Addr)++
		} else {
			*t.echoesOf(is.Addr)--
		}
	}
}

// derive sets what follows from the exported fields.
func (be *Backend) derive() {
	if be.lower = be.MinConnections; be.lower == 0 {
		be.lower = uint32((3*uint64(be.MaxConnections) + 3) / 4) // as in IPVS
	}
	if be.Unreach == counter.None {
		be.maxLength = be.Link.MTU - be.overhead()
	}
}

// Service returns the id of the service of a destination, 0 if it has none.
func (t *Tables) Service(addr packet.Addr, port uint16, proto uint8) uint32 {
	return t.services.Find(addr, port, proto)
}

// sticksToAddress reports whether packets from this endpoint are owned by the client's address
// alone.
func (t *Tables) sticksToAddress(src packet.Addr, port uint16, proto uint8) bool {
	if t.sticky.Len() == 0 {
		return false
	}
	return t.sticky.Get(src, port, proto) != 0 || t.sticky.Get(src, 0, proto) != 0
}

// isSource reports whether fullnat sends from the address.
func (t *Tables) isSource(a packet.Addr) bool { return t.sourceAt(a) != 0 }

// sourceAt returns the index+1 of the source with the address, 0 if fullnat does not send from it.
func (t *Tables) sourceAt(a packet.Addr) uint32 {
	if t.sources.Len() == 0 {
		return 0
	}
	return t.sources.Get(a, 0, 0)
}
