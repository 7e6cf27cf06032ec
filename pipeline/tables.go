package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// Limits of the id spaces. Ids are array indexes; they stay with their service or backend across
// reloads. A backend's means one service, backend and mode for ever: connections of old ones live
// on, and the express lane rewrites by the id alone. Id 0 is never used.
const (
	MaxServices = 1 << 16
	MaxBackends = 1 << 16
)

// Ownership says which worker keeps a service's connections.
type Ownership uint8

// The ownerships.
const (
	ByFlow     Ownership = iota // hash of client address, port, protocol: both directions meet there
	ByAddress                   // hash of the client address alone: persistence needs all its connections together
	ByPort                      // replies to fullnat: the local port says it
	ByReceiver                  // whoever received it: RSS keeps a flow together, and no reply needs the client's hash
	ByFlowNow                   // ByFlow, but ByReceiver before: who receives a packet may have its connection
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
	opens      bool   // the express lane opens connections of it, if its backend has a lane
}

// Backend is a backend as the packet path sees it.
type Backend struct {
	Addr       packet.Addr
	Source     packet.Addr  // tun: source of the outer header
	Link       rewrite.Link // next hop towards Addr, valid if Unreach is None
	Port       uint16       // 0: the port that the client asked for
	Mode       service.Mode
	Unreach    counter.Reason // why Link can't be used
	room       uint16         // longest packet that Link carries with what the mode adds, in bytes; 0 without a Link
	Configured bool           // configured now; false: only its old connections know it
	Up         bool           // health
	// Evict says that its connections end: TCP is reset in nat and fullnat, UDP flows go to another
	// backend. Its service's scheduler must not choose it then: it is down, or has weight 0. See
	// evict.go.
	Evict bool
	keeps bool // its connections go on: Configured and not Evict
}

// Tables is everything that the packet path reads and does not write: immutable, built by the
// control plane, swapped by one atomic pointer, loaded once per batch.
type Tables struct {
	Services     []Service // by service id
	Backends     []Backend // by backend id
	Hops         *nexthop.Table
	Sources      []snat.Source // fullnat's local addresses, by number
	Pools        [][]snat.Ref  // by backend id: what its fullnat connections are sent from
	lanes        []lane        // by backend id
	vips         lookup        // destination address, port, protocol -> service id
	sticky       lookup        // endpoint of a backend whose services are owned ByAddress -> 1
	sources      lookup        // fullnat's local addresses -> index+1 into Sources
	doorOf       lookup        // endpoint of a fullnat backend -> index+1 into doors
	doors        []door
	shared       bool // a door's ports follow the card's hash
	anyPort      bool // a fullnat backend takes connections at any port
	ranges       []portRange
	moved        bool     // a service has
	plainReplies bool     // every backend's packet is owned by its client's hash: ByFlow
	evicted      []uint32 // backends that are evicted, by id in ascending order
}

type portRange struct {
	ports   service.Ports
	service uint32
	next    uint32 // index+1 of the next range of the same address and protocol
}

// rangesBit marks a vips value that is index+1 into ranges rather than a service id.
const rangesBit = 1 << 31

// NewTables indexes services, backends and fullnat's sources for lookup. The slices belong to the
// result; sources and pools may be nil without fullnat.
func NewTables(services []Service, backends []Backend, hops *nexthop.Table, sources []snat.Source, pools [][]snat.Ref) *Tables {
	t := &Tables{Services: services, Backends: backends, Hops: hops, Sources: sources, Pools: pools}
	t.sources = newLookup(len(sources))
	for i, s := range sources {
		t.sources.put(s.Addr, 0, 0, uint32(i+1))
	}
	t.findDoors()
	for i := range backends {
		be := &backends[i]
		be.keeps = be.Configured && !be.Evict
		if be.Unreach == counter.None {
			be.room = be.Link.MTU - be.overhead()
		}
		if be.Evict {
			t.evicted = append(t.evicted, uint32(i))
		}
	}
	t.makeLanes()
	t.vips = newLookup(2 * len(services))
	t.sticky = newLookup(len(backends))
	for id := range services {
		s := &services[id]
		t.moved = t.moved || s.Moved
		if !s.Configured {
			continue
		}
		if s.Ports.Single() {
			t.vips.put(s.Addr, s.Ports.First, s.Proto, uint32(id))
		} else {
			t.addRange(s, uint32(id))
		}
		if s.Ownership == ByAddress {
			for _, b := range s.Backends {
				t.sticky.put(backends[b].Addr, backends[b].Port, s.Proto, 1)
			}
		}
	}
	t.plainReplies = t.sticky.len == 0 && t.sources.len == 0
	return t
}

// addRange chains the service to the others of its address that have many ports; the widest ends up
// last, so that a range wins over "any".
func (t *Tables) addRange(s *Service, id uint32) {
	head := t.vips.get(s.Addr, 0, s.Proto)
	r := portRange{ports: s.Ports, service: id}
	if s.Ports == service.AnyPort && head != 0 {
		last := head &^ rangesBit
		for t.ranges[last-1].next != 0 {
			last = t.ranges[last-1].next
		}
		t.ranges = append(t.ranges, r)
		t.ranges[last-1].next = uint32(len(t.ranges))
		return
	}
	r.next = head &^ rangesBit
	t.ranges = append(t.ranges, r)
	t.vips.put(s.Addr, 0, s.Proto, uint32(len(t.ranges))|rangesBit)
}

// Service finds the service of a destination: its exact port first, then a range, then any port.
// 0: none.
func (t *Tables) Service(addr packet.Addr, port uint16, proto uint8) uint32 {
	if id := t.vips.get(addr, port, proto); single(id) {
		return id
	}
	return t.ranged(addr, port, proto)
}

// single says that a value of vips is the id of a service.
func single(id uint32) bool { return id != 0 && id < rangesBit }

// ranged is Service for destinations without a service of one port.
func (t *Tables) ranged(addr packet.Addr, port uint16, proto uint8) uint32 {
	if len(t.ranges) == 0 {
		return 0
	}
	at := t.vips.get(addr, 0, proto) &^ rangesBit
	for at != 0 {
		r := &t.ranges[at-1]
		if r.ports.Contains(port) {
			return r.service
		}
		at = r.next
	}
	return 0
}

// sticksToAddress says whether a backend's packet belongs to the worker of the client's address
// alone.
func (t *Tables) sticksToAddress(src packet.Addr, port uint16, proto uint8) bool {
	if t.sticky.len == 0 {
		return false
	}
	return t.sticky.get(src, port, proto) != 0 || t.sticky.get(src, 0, proto) != 0
}

// isSource says whether fullnat sends from the address.
func (t *Tables) isSource(a packet.Addr) bool { return t.sourceAt(a) != 0 }

// sourceAt gives the number, plus 1, of the source with that address; 0: fullnat doesn't send from
// it.
func (t *Tables) sourceAt(a packet.Addr) uint32 {
	if t.sources.len == 0 {
		return 0
	}
	return t.sources.get(a, 0, 0)
}
