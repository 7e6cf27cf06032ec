package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/api"
	"sluice/engine/health/policy"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
)

// Snapshot is the state of a balancer at one moment: of the running one, or of one that exists only
// in a file. Its values are never changed; its functions ask the workers.
type Snapshot struct {
	Names
	Config   *conf.Config
	Tables   *pipeline.Tables
	Steering *steer.Decider
	Ports    []route.PortState
	// Asked: see route.Snapshot; nil: not known
	Asked   func(nexthop.Hop) bool
	Health  *policy.State // with the latest results of checks
	Seed    *flow.Seed
	Loads   *counter.Loads
	Workers int

	// Now returns the tick of the workers' clock.
	Now func() uint32
	// OnWorker calls f where the worker's Processor may be used. The error is ErrStale if the
	// worker has newer tables than Tables, and worker.ErrSilent if it does not answer.
	OnWorker func(ctx context.Context, worker int, f func(p *pipeline.Processor)) error
	// Conns returns the connections of a client, or is nil if there are none.
	Conns func(ctx context.Context, client netip.Addr) ([]worker.Conn, error)
	// Queues returns the queues of the ports, or is nil if there are none.
	Queues func(ctx context.Context) ([]PortQueues, error)
}

// Names are the meanings of the numbers that the packet path uses.
type Names struct {
	Services []conf.Service   // by number
	Backends []tables.Backend // by number
	Lists    *accesslist.Lists
	PortName []string // by number
}

// PortQueues are the RX queues of a port.
type PortQueues struct {
	Name string
	Used int // queues with a socket of Sluice
	platform.Steering
}

// ErrStale means that the tables have changed since the snapshot was made.
var ErrStale = errors.New("the tables change all the time: try again")

func (n *Names) service(id uint32) string {
	if int(id) >= len(n.Services) {
		return fmt.Sprintf("service %d", id)
	}
	s := &n.Services[id]
	return fmt.Sprintf("%s (%s)", s.Name, s.Key)
}

func (n *Names) backend(id uint32) string {
	if int(id) >= len(n.Backends) {
		return fmt.Sprintf("backend %d", id)
	}
	b := &n.Backends[id]
	if b.ID.Backend.Port == 0 {
		return b.ID.Backend.Address.String()
	}
	return b.ID.Backend.String()
}

func (n *Names) port(i uint8) string {
	if int(i) >= len(n.PortName) {
		return fmt.Sprintf("port %d", i)
	}
	return n.PortName[i]
}

// Conn returns a table entry as the API has it.
func (n *Names) Conn(r worker.Conn, worker int) api.Conn {
	s, b := &n.Services[r.Entry.Service()], &n.Backends[r.Entry.Backend]
	return api.Conn{
		Service: s.Name, Protocol: s.Key.Protocol.String(),
		Client:   netip.AddrPortFrom(r.Client.Netip(), r.Entry.ClientPort()).String(),
		Virtual:  netip.AddrPortFrom(s.Key.Address, r.Entry.VIPPort()).String(),
		Backend:  netip.AddrPortFrom(b.ID.Backend.Address, r.Entry.BackendPort).String(),
		State:    r.Entry.State.String(),
		Mode:     b.Mode.String(),
		ExpiresS: float64(r.LeftMs) / 1000,
		Worker:   worker,

		SeenReply: r.Entry.Flags&conn.SeenReply != 0,
	}
}
