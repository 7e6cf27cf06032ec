package pipeline

import (
	"slices"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/pipeline/servicemap"
)

// A martian is a packet that no client can have sent, or not from where it came. It opens no
// connection, gets no answer, and established connections pay nothing for the check. What a source
// may not be, whatever the configuration is, is in package packet (Martian4, Martian6). Here are
// the others:
//
//	an address of this host, a VIP,    No client has them. A datagram from one VIP to another
//	a source of fullnat, a broadcast   one would make two backends that echo answer each other
//	                                   for ever.
//	the endpoint of a UDP backend      So would a datagram with such a source: what the backend
//	                                   answers would be its own next request.
//	link-local                         Only within the link (RFC 3927, 2.6.2; RFC 4291, 2.5.6):
//	                                   towards a backend on another link or in a tunnel, unless
//	                                   fullnat replaces the source.
//
// A client may be a backend of the service itself. That works in fullnat; in tun and dr, where the
// reply does not pass here, it is the backend's affair. In nat a backend that is on the client's
// link answers it directly, with its own address, and the client itself with none at all: such
// packets are dropped (Hairpin).

// originKind is what is known of addresses that are not just clients'.
type originKind uint32

// The kinds.
const (
	originOurs    originKind = 1 << iota // of this host, a VIP, a source or a broadcast address
	originBackend                        // a backend's
)

// origins are what is known of sources.
type origins struct {
	kinds servicemap.Endpoints // by address -> originKind
	udp   servicemap.Map       // endpoints of UDP backends -> 1
	// siblings: address of a nat backend and, as port and protocol, the id of its service ->
	// 1+Network
	siblings servicemap.Endpoints
}

// indexOrigins fills in the origins. ours are this host's addresses and the broadcast addresses of
// its subnets.
func (t *Tables) indexOrigins(ours []packet.Addr) {
	ours = slices.Clip(ours)
	for i := range t.Services {
		if s := &t.Services[i]; s.Configured {
			ours = append(ours, s.Addr)
		}
	}
	for i := range t.Sources {
		if s := &t.Sources[i]; s.Ports != nil {
			ours = append(ours, s.Addr)
		}
	}
	t.makeOrigins(ours)
	o := &t.origins
	for _, a := range ours {
		o.add(a, originOurs)
	}
	t.eachServer(func(s *Service, id uint32, be *Backend) {
		o.add(be.Addr, originBackend)
		if be.Mode == service.NAT {
			o.siblings.Put(be.Addr, uint16(id), uint8(id>>16), 1+uint32(be.Network))
		}
		if s.Proto == uint8(service.UDP) {
			ports := s.Ports
			if be.Port != 0 {
				ports = service.Ports{First: be.Port, Last: be.Port}
			}
			o.udp.Add(be.Addr, ports, s.Proto, 1)
		}
	})
}

// makeOrigins makes the maps, as large as they must be.
func (t *Tables) makeOrigins(ours []packet.Addr) {
	var all, nat [2]int // by family: IPv4, IPv6
	udp := 0
	count := func(of *[2]int, a packet.Addr) {
		if a.Is4() {
			of[0]++
		} else {
			of[1]++
		}
	}
	for _, a := range ours {
		count(&all, a)
	}
	t.eachServer(func(s *Service, _ uint32, be *Backend) {
		count(&all, be.Addr)
		if be.Mode == service.NAT {
			count(&nat, be.Addr)
		}
		if s.Proto == uint8(service.UDP) {
			udp++
		}
	})
	t.origins = origins{
		kinds: servicemap.NewEndpointsOf(all[0], all[1]), siblings: servicemap.NewEndpointsOf(nat[0], nat[1]), udp: servicemap.New(udp),
	}
}

// eachServer calls f for each backend of each service, former ones and sorry servers included.
func (t *Tables) eachServer(f func(s *Service, id uint32, be *Backend)) {
	for id := range t.Services {
		s := &t.Services[id]
		for _, servers := range [][]uint32{s.Backends, s.Sorry, s.Former} {
			for _, b := range servers {
				f(s, uint32(id), &t.Backends[b])
			}
		}
	}
}

func (o *origins) add(a packet.Addr, kind originKind) {
	o.kinds.Put(a, 0, 0, uint32(o.of(a)|kind))
}

func (o *origins) of(a packet.Addr) originKind { return originKind(o.kinds.Get(a, 0, 0)) }

// special reports whether more must be known of a client than its address before a connection
// opens. The fast path leaves such clients to the slow path.
func (o *origins) special(client packet.Addr) bool {
	return o.of(client) != 0 || isLinkLocal(client)
}

// isLinkLocal reports whether the address is one of a single link (RFC 3927; RFC 4291, 2.5.6).
func isLinkLocal(a packet.Addr) bool {
	if a.Is4() {
		return a.V4()>>16 == 169<<8|254
	}
	return a.Hi>>54 == 0xfe80>>6
}

// Martian reports whether no client can have sent a packet with this source, whatever becomes of
// it.
func (t *Tables) Martian(src packet.Addr, port uint16, proto uint8) bool {
	kind := t.origins.of(src)
	return kind&originOurs != 0 ||
		kind&originBackend != 0 && proto == uint8(service.UDP) && t.origins.udp.Find(src, port, proto) != 0
}

// martian drops a packet that no client can have sent, and reports whether it did.
func (p *Processor) martian(f *Frame) bool {
	m := &f.meta
	if !p.t.Martian(m.Src, m.SrcPort, m.Proto) {
		return false
	}
	f.drop(counter.Martian)
	return true
}

// mustNotReach returns why a client's packet must not go to a backend, None if it may.
func (p *Processor) mustNotReach(f *Frame, be *Backend) counter.Reason {
	m := &f.meta
	switch {
	case be.Mode == service.FullNAT || !p.t.origins.special(m.Src):
	case isLinkLocal(m.Src) && (be.Mode == service.TUN || be.Link.Port != f.Port || be.Link.VLAN != m.VLAN):
		return counter.Martian
	case be.Mode == service.NAT:
		sibling := p.t.origins.siblings.Get(m.Src, uint16(f.service), uint8(f.service>>16))
		if sibling != 0 && (be.Addr == m.Src || sibling > 1 && sibling == 1+uint32(be.Network)) {
			return counter.Hairpin
		}
	}
	return counter.None
}
