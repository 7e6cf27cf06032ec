package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// Source is a local address that fullnat sends from.
type Source struct {
	Addr  packet.Addr
	Ports *PortSet // of the address, shared out among all workers
}

// SourceRef is a source as one backend's connections may use it. Pools have numbers as services have;
// backends that are the same host and port share one, because their connections could not be told apart.
//
// Which worker has which port of a pool is settled when the pool is made, for good: connections of workers that
// disagree could collide. Where the card's hash is known, ports are shared out by it, so that a reply arrives at the
// worker whose it is. Otherwise they are dealt out in turn, and replies are handed over.
type SourceRef struct {
	Source uint8        // index into Tables.Sources
	Proto  uint8        // of the connections
	Live   bool         // configured now; false: only old connections use it
	Pool   uint32       // number of the pool of ports
	Shares *flow.Shares // by the card's hash; nil: in turn. The same for all sources of a backend's address and port
	Base   uint32       // of the backend's address and port and the source, if there are Shares
}

// ports tells which of the ports from 64*w on are a worker's.
func (r *SourceRef) ports(worker, workers, w int) uint64 {
	if r.Shares == nil {
		return byNumber(worker, workers, w)
	}
	return r.Shares.Word(worker, r.Base, w)
}

// MaxSources is the number of local addresses that fullnat can send from.
const MaxSources = 256

// adopt prepares for tables that were not seen before: every pool of ports they name is made here once.
func (p *Processor) adopt(t *Tables) {
	if t.evictsMore(p.t) {
		p.startPokes()
	}
	p.t = t
	for _, refs := range t.Pools {
		for i := range refs {
			r := &refs[i]
			for int(r.Pool) >= len(p.pools) {
				p.pools = append(p.pools, nil)
			}
			if p.pools[r.Pool] == nil {
				mine := func(w int) uint64 { return r.ports(p.worker, p.workers, w) }
				p.pools[r.Pool] = newPortPool(t.Sources[r.Source].Ports, mine)
			}
		}
	}
}

// findSharings notes for which backends ports are shared out by the card's hash.
func (t *Tables) findSharings() {
	t.sharings = newLookup(len(t.Pools))
	for id, refs := range t.Pools {
		be := &t.Backends[id]
		for i := range refs {
			if s := refs[i].Shares; s != nil {
				t.sharings.put(be.Addr, be.Port, refs[i].Proto, t.numberOf(s))
			}
		}
		t.anyPort = t.anyPort || be.Port == 0 && len(refs) > 0
	}
}

// numberOf finds or gives the place of s in shares, counted from 1. There are few: one per card and kind of packet.
func (t *Tables) numberOf(s *flow.Shares) uint32 {
	for i := range t.shares {
		if t.shares[i] == s {
			return uint32(i + 1)
		}
	}
	t.shares = append(t.shares, s)
	return uint32(len(t.shares))
}

// portOwner says which worker has a local port towards a backend. If it is nobody's, there is no such worker.
func (p *Processor) portOwner(backend packet.Addr, port uint16, local packet.Addr, localPort uint16, proto uint8) int {
	if i := p.t.sharings.get(backend, port, proto); i != 0 {
		s := p.t.shares[i-1]
		return s.Owner(s.Base(backend, port, local), localPort)
	}
	return int(localPort) % p.workers
}

// passToPortOwner hands a backend's frame, fresh from the card and of no flow of ours, to the worker that has the
// local port. Only frames to ports that are shared out by the card's hash come here without being asked for their
// owner before: they are nearly always right.
func (p *Processor) passToPortOwner(f *Frame) bool {
	backend, port, local, localPort := f.backendFirst()
	if p.workers == 1 || f.Hops > 0 || !p.t.isSource(local) {
		return false
	}
	owner := p.portOwner(backend, port, local, localPort, f.meta.Proto)
	if owner == p.worker || owner >= p.workers {
		return false
	}
	p.handTo(f, owner)
	return true
}

// portTries bounds, times the number of workers, how many ports a new connection looks at.
const portTries = 4

// translate gives a new fullnat connection a local address and port, and the entry that replies to them
// find.
func (p *Processor) translate(t *conn.Table, c *conn.Conn, backend packet.Addr) counter.Reason {
	for range portTries * p.workers {
		ref, port := p.takePort(c)
		if port == 0 {
			return p.noPort(c)
		}
		local := p.t.Sources[ref.Source].Addr
		if p.t.anyPort && p.tupleTaken(t, c, backend, local, port) {
			p.pools[ref.Pool].give(port)
			continue
		}
		r := t.Insert(t.Home(p.seed.Hash(local, port, c.Proto())), local, conn.ReverseKey(c.Service(), port), backend, c.Flags&conn.IsUDP, p.now)
		if r == nil {
			p.pools[ref.Pool].give(port)
			return counter.TableFull
		}
		c.Source, c.Extra = ref.Source, port
		r.BackendPort, r.Expires = c.BackendPort, c.Expires
		t.SetLead(r, c)
		return counter.None
	}
	return counter.TupleTaken
}

// noPort says why there is no port for a new connection. A backend that could not be reached yet has no pools.
func (p *Processor) noPort(c *conn.Conn) counter.Reason {
	if be := &p.t.Backends[c.Backend]; len(p.t.Pools[c.Backend]) == 0 && be.Unreach != counter.None {
		return be.Unreach
	}
	return counter.SNATExhausted
}

// tupleTaken says that the connection can't have a local port although it is free in its pool: a backend of
// any port has a pool of its own, and may be the same host as a backend of the port that the client asked for.
func (p *Processor) tupleTaken(t *conn.Table, c *conn.Conn, backend, local packet.Addr, port uint16) bool {
	if p.workers > 1 && p.portOwner(backend, c.BackendPort, local, port, c.Proto()) != p.worker {
		return true
	}
	home := t.Home(p.seed.Hash(local, port, c.Proto()))
	return t.FindReply(home, local, port, backend, c.BackendPort, c.Flags&conn.IsUDP != 0, p.now) != nil
}

// takePort picks a free port towards the connection's backend, from the sources in turn.
func (p *Processor) takePort(c *conn.Conn) (SourceRef, uint16) {
	refs := p.t.Pools[c.Backend]
	p.sourceTurn++
	for i := range refs {
		r := refs[(i+int(p.sourceTurn))%len(refs)]
		if !r.Live {
			continue
		}
		if port, ok := p.pools[r.Pool].take(); ok {
			return r, port
		}
	}
	return SourceRef{}, 0
}

// untranslate gives back what translate took. Called when the connection is closed.
func (p *Processor) untranslate(t *conn.Table, c *conn.Conn) {
	for _, r := range p.t.Pools[c.Backend] {
		if r.Source == c.Source {
			p.pools[r.Pool].give(c.Extra)
		}
	}
	local, be := p.t.Sources[c.Source].Addr, t.BackendAddr(c)
	r := t.FindReply(t.Home(p.seed.Hash(local, c.Extra, c.Proto())), local, c.Extra, be, c.BackendPort, c.Flags&conn.IsUDP != 0, p.now)
	if r != nil && r.IsReverse() {
		t.Remove(r)
	}
}

// reverseGraceMs is how long a reverse entry waits for its connection, which has expired, to be swept.
const reverseGraceMs = 1000

// follow gives a reverse entry the life of its connection, whose packets don't touch it. It goes when the
// connection is closed.
func (p *Processor) follow(t *conn.Table, reverse *conn.Conn) {
	reverse.Expires = t.Lead(reverse).Expires
	if reverse.Expired(p.now) {
		reverse.Expires = p.now + reverseGraceMs
	}
}
