package servicemap

import (
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Map finds services by their address, ports and protocol.
type Map struct {
	// Exact holds service ids by address, port and protocol. At port 0 of an address and protocol
	// it holds the list of the services with many ports; see IsService.
	Exact  Endpoints
	ranges []portRange
}

// portRange is a service with many ports.
type portRange struct {
	ports   service.Ports
	service uint32
	next    uint32 // index+1 of the next one of the same address and protocol
}

// rangesBit marks a value of Exact that is index+1 into ranges rather than a service id.
const rangesBit = 1 << 31

// New makes a map for at most n services.
func New(n int) Map { return Map{Exact: NewEndpoints(2 * n)} }

// Add adds a service. The id must be above 0 and below 1<<31.
func (m *Map) Add(addr packet.Addr, ports service.Ports, proto uint8, id uint32) {
	if ports.Single() {
		m.Exact.Put(addr, ports.First, proto, id)
		return
	}
	head := m.Exact.Get(addr, 0, proto)
	r := portRange{ports: ports, service: id}
	if ports == service.AnyPort && head != 0 { // at the end, so that a range wins over any port
		last := head &^ rangesBit
		for m.ranges[last-1].next != 0 {
			last = m.ranges[last-1].next
		}
		m.ranges = append(m.ranges, r)
		m.ranges[last-1].next = uint32(len(m.ranges))
		return
	}
	r.next = head &^ rangesBit
	m.ranges = append(m.ranges, r)
	m.Exact.Put(addr, 0, proto, uint32(len(m.ranges))|rangesBit)
}

// Find returns the id of the destination's service, 0 if it has none.
func (m *Map) Find(addr packet.Addr, port uint16, proto uint8) uint32 {
	if id := m.Exact.Get(addr, port, proto); IsService(id) {
		return id
	}
	return m.FindRange(addr, port, proto)
}

// IsService reports whether a value of Exact is the id of a service.
func IsService(value uint32) bool { return value != 0 && value < rangesBit }

// FindRange is Find among the services with many ports.
func (m *Map) FindRange(addr packet.Addr, port uint16, proto uint8) uint32 {
	if len(m.ranges) == 0 {
		return 0
	}
	at := m.Exact.Get(addr, 0, proto) &^ rangesBit
	for at != 0 {
		r := &m.ranges[at-1]
		if r.ports.Contains(port) {
			return r.service
		}
		at = r.next
	}
	return 0
}
