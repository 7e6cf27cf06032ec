package pipeline

import (
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

// Limits of the id spaces. Ids are array indexes; they stay with their service or backend across
// reloads. A backend's means one service, backend and mode for ever: connections of old ones live
// on, and the express lane rewrites by the id alone. Id 0 is never used.
const (
	MaxServices = 1 << 16
	MaxBackends = 1 << 16
)

// Service is a service as the packet path sees it.
type Service struct {
	Addr       packet.Addr
	Ports      service.Ports
	Proto      uint8
	Ownership  Ownership
	Moved      bool            // owned otherwise before: what one worker doesn't know, another may
	Configured bool            // configured now; false: only its old connections know it
	Scheduler  sched.Scheduler // over Backends
	Backends   []uint32        // backend ids, latest added first, as IPVS keeps them
	TimeoutsMs [conn.StateCount]uint32
	PersistMs  uint32 // 0: no persistence
	fastOpen   bool   // the express lane opens connections of it, if its backend has a lane
}

// Backend is a backend as the packet path sees it.
type Backend struct {
	Addr       packet.Addr
	Source     packet.Addr  // tun: source of the outer header
	Link       rewrite.Link // next hop towards Addr, valid if Unreach is None
	Port       uint16       // 0: the port that the client asked for
	Mode       service.Mode
	Unreach    counter.Reason // why Link can't be used
	maxLength  uint16         // longest packet that Link carries with what the mode adds, in bytes; 0 without a Link
	Configured bool           // configured now; false: only its old connections know it
	Up         bool           // health
	// Evict says that its connections end: TCP is reset in nat and fullnat, UDP flows go to another
	// backend. Its service's scheduler must not choose it then: it is down, or has weight 0. See
	// evict.go.
	Evict   bool
	serving bool // its connections go on: Configured and not Evict
}

// Tables is everything that the packet path reads and does not write: immutable, built by the
// control plane, swapped by one atomic pointer, loaded once per batch.
type Tables struct {
	Services        []Service // by service id
	Backends        []Backend // by backend id
	Hops            *nexthop.Table
	Sources         []snat.Source // fullnat's local addresses, by number
	Pools           [][]snat.Ref  // by backend id: what its fullnat connections are sent from
	fastEntries     []fastEntry   // by backend id
	services        servicemap.Map
	sticky          servicemap.Endpoints // endpoint of a backend whose services are owned ByAddress -> 1
	sources         servicemap.Endpoints // fullnat's local addresses -> index+1 into Sources
	replyEndpointAt servicemap.Endpoints // endpoint of a fullnat backend -> index+1 into doors
	replyEndpoints  []replyEndpoint
	portsByHash     bool     // a door's ports follow the card's hash
	anyPort         bool     // a fullnat backend takes connections at any port
	moved           bool     // a service has
	plainReplies    bool     // every backend's packet is owned by its client's hash: ByFlow
	evicted         []uint32 // backends that are evicted, by id in ascending order
}

// NewTables indexes services, backends and fullnat's sources for lookup. The slices belong to the
// result; sources and pools may be nil without fullnat.
func NewTables(services []Service, backends []Backend, hops *nexthop.Table, sources []snat.Source, pools [][]snat.Ref) *Tables {
	t := &Tables{Services: services, Backends: backends, Hops: hops, Sources: sources, Pools: pools}
	t.sources = servicemap.NewEndpoints(len(sources))
	for i, s := range sources {
		t.sources.Put(s.Addr, 0, 0, uint32(i+1))
	}
	t.indexReplyEndpoints()
	for i := range backends {
		be := &backends[i]
		be.serving = be.Configured && !be.Evict
		if be.Unreach == counter.None {
			be.maxLength = be.Link.MTU - be.overhead()
		}
		if be.Evict {
			t.evicted = append(t.evicted, uint32(i))
		}
	}
	t.buildFastEntries()
	t.services = servicemap.New(len(services))
	t.sticky = servicemap.NewEndpoints(len(backends))
	for id := range services {
		s := &services[id]
		t.moved = t.moved || s.Moved
		if !s.Configured {
			continue
		}
		t.services.Add(s.Addr, s.Ports, s.Proto, uint32(id))
		if s.Ownership == ByAddress {
			for _, b := range s.Backends {
				t.sticky.Put(backends[b].Addr, backends[b].Port, s.Proto, 1)
			}
		}
	}
	t.plainReplies = t.sticky.Len() == 0 && t.sources.Len() == 0
	return t
}

// Service returns the id of the service of a destination, 0 if it has none.
func (t *Tables) Service(addr packet.Addr, port uint16, proto uint8) uint32 {
	return t.services.Find(addr, port, proto)
}

// sticksToAddress says whether a backend's packet belongs to the worker of the client's address
// alone.
func (t *Tables) sticksToAddress(src packet.Addr, port uint16, proto uint8) bool {
	if t.sticky.Len() == 0 {
		return false
	}
	return t.sticky.Get(src, port, proto) != 0 || t.sticky.Get(src, 0, proto) != 0
}

// isSource says whether fullnat sends from the address.
func (t *Tables) isSource(a packet.Addr) bool { return t.sourceAt(a) != 0 }

// sourceAt gives the number, plus 1, of the source with that address; 0: fullnat doesn't send from
// it.
func (t *Tables) sourceAt(a packet.Addr) uint32 {
	if t.sources.Len() == 0 {
		return 0
	}
	return t.sources.Get(a, 0, 0)
}
