package tables

import (
	"slices"

	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// A service's flows are owned by hash unless one of its replies finds the owner without the
// client's address, and every packet of a flow is sure to come to one worker. Otherwise a SYN that
// is sent again and comes by another queue would open a second connection, and one of the two ends
// with RST. So the receiver owns a flow only where
//
//   - one NIC port faces the clients: there is no other, or the default route leaves by it alone;
//   - that port's card chooses the queue by addresses and ports (RSS), and has one for each worker;
//   - so do the cards of all other ports, or they have one queue, because hosts there may be
//     clients too.
//
// veth and other devices without hardware choose a queue by the CPU that sends.

// clientPort is the NIC port that faces the clients of one family.
type clientPort struct {
	port uint8
	one  bool // it is the only one that does; false before there was a default route
}

// clientPortOf returns the NIC port that faces the clients of a family. While the default route is
// gone, for example because the link is down, it is the one that was before.
func (in *Input) clientPortOf(is4 bool, before clientPort) clientPort {
	if len(in.Cards) == 1 {
		return clientPort{0, true}
	}
	port, one, known := in.Hops.DefaultPort(is4)
	if !known {
		return before
	}
	return clientPort{port, one}
}

// clientPorts are those of both families.
type clientPorts struct{ v4, v6 clientPort }

// spread reports whether each of the service's flows comes to one worker, and the flows of many
// clients to all workers.
func (c *clientPorts) spread(in *Input, s *pipeline.Service) bool {
	is4, client := s.Addr.Is4(), c.v6
	if is4 {
		client = c.v4
	}
	if !client.one || int(client.port) >= len(in.Cards) {
		return false
	}
	for i := range in.Cards {
		if card := &in.Cards[i]; len(card.Queues) > 1 && (card.RSS == nil || !card.RSS.HashesPorts(s.Proto, is4)) {
			return false
		}
	}
	return in.Cards[client.port].reachesAll(in.Workers)
}

// reachesAll reports whether the card delivers packets to every worker.
func (c *Card) reachesAll(workers int) bool {
	if workers == 1 {
		return true
	}
	if c.RSS == nil {
		return false
	}
	reached := make([]bool, workers)
	for _, number := range c.RSS.Queues {
		if w := c.worker(int(number), workers); w >= 0 {
			reached[w] = true
		}
	}
	return !slices.Contains(reached, false)
}

// ownership is how a service's connections were owned since the start. Some of them may live on, so
// that the present ownership must be one by which they are still found.
type ownership struct {
	known              bool // now is valid
	now                pipeline.Ownership
	byReceiver, byHash bool // some connections were owned by their receiver, by a hash
	moved              bool // it was ever another
}

// follows returns the history with the ownership that is wanted next. oneWay means that no reply
// from the service's backends needs the client's hash, used that there are backends. Without spread
// the receiver of a flow's packets is not always the same, and a hash is needed.
func (o ownership) follows(wanted pipeline.Ownership, spread, oneWay, used bool) ownership {
	if wanted == pipeline.ByFlow {
		switch {
		case spread && oneWay && !o.byHash:
			o.byReceiver = o.byReceiver || used
			wanted = pipeline.ByReceiver
		case o.byReceiver:
			o.byHash, wanted = true, pipeline.ByFlowNow
		default:
			o.byHash = o.byHash || used
		}
	}
	o.moved = o.moved || o.known && o.now != wanted
	o.known, o.now = true, wanted
	return o
}

// own sets how each configured service's connections are owned and returns the history with it.
func own(services []pipeline.Service, backends []pipeline.Backend, spread func(*pipeline.Service) bool, before []ownership) []ownership {
	shareStickiness(services, backends)
	history := before
	if len(before) < len(services) {
		history = make([]ownership, len(services))
		copy(history, before)
	}
	private := len(history) > len(before) // not shared with the state before
	for i := range services {
		s := &services[i]
		if !s.Configured && len(s.Former) == 0 {
			continue
		}
		o := history[i].follows(s.Ownership, spread(s), oneWay(s, backends), len(s.Backends)+len(s.Former) > 0)
		s.Ownership, s.Moved = o.now, o.moved
		if o == history[i] {
			continue
		}
		if !private {
			history, private = slices.Clone(history), true
		}
		history[i] = o
	}
	return history
}

// replySource is where a backend's replies come from.
type replySource struct {
	addr  packet.Addr
	port  uint16
	proto uint8
}

// shareStickiness sets ownership by the client's address for persistent services, and for every
// service that shares a backend with one of them: a reply identifies its backend, not its service.
func shareStickiness(services []pipeline.Service, backends []pipeline.Backend) {
	if !slices.ContainsFunc(services, func(s pipeline.Service) bool { return s.PersistMs > 0 }) {
		return
	}
	sticky := make(map[replySource]bool)
	for changed := true; changed; {
		changed = false
		for i := range services {
			s := &services[i]
			own := s.PersistMs > 0
			for _, id := range servers(s) {
				own = own || sticky[replySource{backends[id].Addr, backends[id].Port, s.Proto}]
			}
			if !own || s.Ownership == pipeline.ByAddress {
				continue
			}
			s.Ownership, changed = pipeline.ByAddress, true
			for _, id := range servers(s) {
				sticky[replySource{backends[id].Addr, backends[id].Port, s.Proto}] = true
			}
		}
	}
}

// servers returns the numbers of the service's backends, those that only existing connections use
// included.
func servers(s *pipeline.Service) []uint32 { return append(slices.Clip(s.Backends), s.Former...) }

// oneWay reports whether no backend's replies have to find the client's worker by the client: they
// bypass Sluice, or come to a local port (fullnat), which identifies the worker.
func oneWay(s *pipeline.Service, backends []pipeline.Backend) bool {
	for _, id := range servers(s) {
		if backends[id].Mode == service.NAT {
			return false
		}
	}
	return true
}
