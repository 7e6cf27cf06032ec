package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// Source is a local address that fullnat sends from.
type Source struct {
	Addr  packet.Addr
	Ports *PortSet // of the address, shared out among all workers
}

// SourceRef is a source as one backend's connections may use it. Pools have numbers as services have;
// backends that are the same host and port share one, because their connections could not be told apart.
type SourceRef struct {
	Source uint8  // index into Tables.Sources
	Pool   uint32 // number of the pool of ports
	Live   bool   // configured now; false: only old connections use it
}

// MaxSources is the number of local addresses that fullnat can send from.
const MaxSources = 256

// adopt prepares for tables that were not seen before: every pool of ports they name is made here once.
func (p *Processor) adopt(t *Tables) {
	p.t = t
	for _, refs := range t.Pools {
		for _, r := range refs {
			for int(r.Pool) >= len(p.pools) {
				p.pools = append(p.pools, nil)
			}
			if p.pools[r.Pool] == nil {
				p.pools[r.Pool] = newPortPool(t.Sources[r.Source].Ports, p.worker, p.workers)
			}
		}
	}
}

// translate gives a new fullnat connection a local address and port, and the entry that replies to them
// find.
func (p *Processor) translate(t *conn.Table, c *conn.Conn, backend packet.Addr) counter.Reason {
	ref, port := p.takePort(c)
	if port == 0 {
		return counter.SNATExhausted
	}
	c.Source, c.Extra = ref.Source, port
	local := p.t.Sources[ref.Source].Addr
	r := t.Insert(t.Home(p.seed.Hash(local, port, c.Proto())), local, conn.ReverseKey(c.Service(), port), backend, c.Flags&conn.IsUDP, p.now)
	if r == nil {
		p.pools[ref.Pool].give(port)
		return counter.TableFull
	}
	r.BackendPort, r.Expires = c.BackendPort, c.Expires
	t.SetLead(r, c)
	return counter.None
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
