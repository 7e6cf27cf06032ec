package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// Misplaced are connections of a former process that are at another worker than the one that their
// clients' packets come to, because the number of workers is another now: those of fullnat are
// where replies to their SNAT port arrive, and UDP flows owned by their receiver are where that
// was. A worker that does not know a client's packet asks here first, and hands it over.
//
// Connections are added before the workers run. Then all workers share it; what ends is noted by
// the worker that has it.
type Misplaced struct {
	of     map[clientFlow]misplacedFlow
	living counter.Living // by number
}

// clientFlow is what a connection is found by.
type clientFlow struct {
	client packet.Addr
	key    conn.Key
}

type misplacedFlow struct{ worker, number int }

// NewMisplaced returns a Misplaced without connections.
func NewMisplaced() *Misplaced { return &Misplaced{of: make(map[clientFlow]misplacedFlow)} }

// Add adds a connection that a worker has. No worker may run.
func (m *Misplaced) Add(e *conn.Entry, worker int) {
	m.of[clientFlow{e.Client, e.Key()}] = misplacedFlow{worker, m.living.Add()}
}

// any reports whether connections are misplaced.
func (m *Misplaced) any() bool { return m != nil && m.living.Live() > 0 }

// mayBeMisplaced reports whether a frame may be of a misplaced connection, or of one that has just
// ended.
func (p *Processor) mayBeMisplaced(f *Frame) bool {
	m := p.misplaced
	return m != nil && (m.living.Live() > 0 || f.Hops > 0 && len(m.of) > 0)
}

// find returns a client's connection if it is misplaced, or was.
func (m *Misplaced) find(client packet.Addr, k conn.Key) (flow misplacedFlow, is bool) {
	flow, is = m.of[clientFlow{client, k}]
	return flow, is
}

// isMisplaced reports whether a client's connection is misplaced, or was.
func (p *Processor) isMisplaced(client packet.Addr, k conn.Key) bool {
	_, is := p.misplaced.find(client, k)
	return is
}

// end notes that a connection has ended.
func (m *Misplaced) end(client packet.Addr, k conn.Key) {
	if flow, is := m.find(client, k); is {
		m.living.End(flow.number)
	}
}

// handMisplaced hands a client's frame that belongs to no connection of this worker to the worker
// that has it as misplaced. That worker returns one that came too late: the connection has ended,
// and another one is opened where it belongs. It reports whether it handed the frame over.
func (p *Processor) handMisplaced(f *Frame, client packet.Addr, k conn.Key, s *Service) bool {
	if !p.mayBeMisplaced(f) {
		return false
	}
	flow, is := p.misplaced.find(client, k)
	if !is || int(f.Hops) > 2*p.workers {
		return false
	}
	to := flow.worker
	switch {
	case to != p.worker && !p.misplaced.living.Lives(flow.number):
		return false
	case to == p.worker:
		p.misplaced.end(client, k)
		owner, hashed := s.Ownership.hashed(p.seed, client, k.ClientPort, f.meta.Proto, p.workers)
		if !hashed || f.Hops == 0 {
			return false
		}
		to = owner
	}
	if to == p.worker {
		return false
	}
	p.handTo(f, to)
	return true
}
