package enginetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

var _ platform.Platform = (*Platform)(nil)

// Platform is the memory that replaces kernel and NIC. Tests use it through a Lab. Any goroutine
// may call its methods.
type Platform struct {
	// RingSize is the capacity of each of a queue's four rings, FramesPerQueue how many frames the
	// UMEM has for each queue. They may be changed before the engine starts.
	RingSize, FramesPerQueue int
	// RSS is how the NICs of all ports distribute received frames; nil: unknown. It may be set
	// before the engine starts.
	RSS *flow.RSS
	// MemoryLeft is how many bytes Memory still returns; nil: any number. It may be set before the
	// engine starts.
	MemoryLeft *int

	ledger *ledger
	umem   []byte
	kernel kernel

	publishing sync.Mutex // held while publish runs: one call at a time
	publish    func(*route.Snapshot)

	mu         sync.Mutex // guards the fields below
	around     Surroundings
	queues     []int      // number of queues of each port
	ports      [][]*queue // those in use
	unsent     uint64     // frames that were on TX rings when their port was closed
	rules      steer.Rules
	unused     platform.Steering // added by Steering
	outcomes   steer.Counters    // returned by Outcomes
	refuse     error             // returned by Steer
	requested  map[netip.Addr]bool
	neighbours []netip.Addr
	detached   map[int]bool // ports without steering
	reattach   error        // returned by Restore for these
	closed     bool

	kept, former map[string][]byte // see platform.Keeper
}

func newPlatform(queues []int) *Platform {
	return &Platform{
		kept:     make(map[string][]byte),
		RingSize: 256, FramesPerQueue: 1024,
		around: newSurroundings(len(queues)), queues: queues,
		ledger: &ledger{}, requested: make(map[netip.Addr]bool), detached: make(map[int]bool),
	}
}

// Cores implements platform.Platform. Workers share the CPUs, so that tests can have any number of
// workers on any machine.
func (p *Platform) Cores(configured []int) ([]int, error) {
	allowed, err := cpu.Allowed()
	if err != nil {
		return nil, err
	}
	cores := make([]int, len(configured))
	for i := range cores {
		cores[i] = allowed[i%len(allowed)]
	}
	return cores, nil
}

// Follow implements platform.Platform.
func (p *Platform) Follow(_ []conf.Port, publish func(*route.Snapshot)) error {
	p.publishing.Lock()
	p.publish = publish
	p.publishing.Unlock()
	p.Change(func(*Surroundings) {})
	return nil
}

// Change changes the surroundings and informs the engine, which has published new tables when
// Change returns.
func (p *Platform) Change(f func(s *Surroundings)) {
	p.publishing.Lock()
	defer p.publishing.Unlock()
	p.mu.Lock()
	f(&p.around)
	s, closed := p.around.snapshot(), p.closed
	p.mu.Unlock()
	if p.publish != nil && !closed {
		p.publish(s)
	}
}

// Open implements platform.Platform.
func (p *Platform) Open(ports []conf.Port, workers int) (*platform.Hardware, error) {
	if len(ports) != len(p.queues) {
		return nil, fmt.Errorf("the lab has %d ports, the configuration %d", len(p.queues), len(ports))
	}
	perWorker := 0
	for _, n := range p.queues {
		perWorker += (n + workers - 1) / workers * p.FramesPerQueue
	}
	// It is on the Go heap because the race detector checks only that.
	p.umem = make([]byte, perWorker*workers*platform.FrameSize)
	p.ledger.chunks = make([]atomic.Uint32, perWorker*workers)
	p.ports = make([][]*queue, len(ports))
	hw := &platform.Hardware{UMEM: p.umem}
	for i := range ports {
		port, err := p.OpenPort(i)
		if err != nil {
			return nil, err
		}
		hw.Ports = append(hw.Ports, *port)
	}
	return hw, nil
}

// OpenPort implements platform.Platform.
func (p *Platform) OpenPort(i int) (*platform.HardwarePort, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state := &p.around.Ports[i]
	hw := &platform.HardwarePort{Name: state.Name, Ifindex: state.Ifindex, IO: string(conf.IOCopy), RSS: p.RSS}
	var queues []*queue
	for number := range p.queues[i] {
		q, err := newQueue(p.umem, p.ledger, p.RingSize)
		if err != nil {
			return nil, err
		}
		queues = append(queues, q)
		hw.Queues = append(hw.Queues, platform.HardwareQueue{Queue: q, Number: number})
	}
	p.ports[i] = queues
	return hw, nil
}

// ClosePort implements platform.Platform.
func (p *Platform) ClosePort(i int) (frames []uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.ports[i] {
		had, unsent, e := q.close()
		frames, err = append(frames, had...), errors.Join(err, e)
		p.unsent += uint64(unsent)
	}
	return frames, err
}

// Detach ends the steering of a port, as another process does by detaching the XDP program.
// Attempts to restore it fail with err, until Detach is called again; nil: none does.
func (p *Platform) Detach(port int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.detached[port], p.reattach = true, err
}

// Restore implements platform.Platform.
func (p *Platform) Restore(port int) (lost string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.detached[port] {
		return "", nil
	}
	if p.reattach != nil {
		return "detached", p.reattach
	}
	delete(p.detached, port)
	return "detached", nil
}

// Closed reports whether the port's queues are closed and no new ones opened.
func (p *Platform) Closed(port int) bool {
	q := p.queue(port, 0)
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// queue returns the queue of that number that is in use.
func (p *Platform) queue(port, number int) *queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ports[port][number]
}

// every calls f for all queues in use.
func (p *Platform) every(f func(port, number int, q *queue)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for port, queues := range p.ports {
		for number, q := range queues {
			f(port, number, q)
		}
	}
}

// Memory implements platform.Platform. Go aligns objects of this size to pages.
func (p *Platform) Memory(name string, bytes, core int) ([]byte, error) {
	if p.MemoryLeft != nil {
		if *p.MemoryLeft < bytes {
			return nil, errors.New("out of memory")
		}
		*p.MemoryLeft -= bytes
	}
	mem := make([]byte, max(bytes, 64<<10))
	p.kept[name] = mem
	return mem, nil
}

var _ platform.Keeper = (*Platform)(nil)

// Counters implements platform.Keeper.
func (p *Platform) Counters(name string, bytes int) ([]byte, error) {
	p.kept[name] = make([]byte, bytes)
	return p.kept[name], nil
}

// Inherit makes p's engine the next process after that of another platform, which is closed: its
// workers would still count.
func (p *Platform) Inherit(from *Platform) { p.former = from.kept }

// Former implements platform.Keeper.
func (p *Platform) Former() map[string][]byte { return p.former }

// EndFormer implements platform.Keeper.
func (p *Platform) EndFormer() error {
	p.former = nil
	return nil
}

// Keep implements platform.Keeper.
func (p *Platform) Keep(name string, data []byte) error {
	p.kept[name] = slices.Clone(data)
	return nil
}

// Steer implements platform.Platform.
func (p *Platform) Steer(r steer.Rules) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse == nil {
		p.rules = r
	}
	return p.refuse
}

// AddUnusedQueues makes Steering report that many more RX queues on every port than the engine
// uses, and frames dropped there.
func (p *Platform) AddUnusedQueues(queues int, frames uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unused = platform.Steering{Queues: queues, NoSocket: frames}
}

// Steering implements platform.Platform.
func (p *Platform) Steering(port int) (platform.Steering, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return platform.Steering{Queues: p.queues[port] + p.unused.Queues, NoSocket: p.unused.NoSocket}, nil
}

// SetOutcomes makes Outcomes return c for each port.
func (p *Platform) SetOutcomes(c steer.Counters) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outcomes = c
}

// Outcomes implements platform.Platform.
func (p *Platform) Outcomes(int) (steer.Counters, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.outcomes, nil
}

// Steered returns the rules of the last Steer.
func (p *Platform) Steered() steer.Rules {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rules
}

// RefuseSteering makes every Steer fail with err from now on; nil ends that.
func (p *Platform) RefuseSteering(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

// Source implements platform.Platform.
func (p *Platform) Source(dst netip.Addr) netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.around.source(dst)
}

// LocalPortRange implements platform.Platform: Linux's default.
func (p *Platform) LocalPortRange() service.Ports { return service.Ports{First: 32768, Last: 60999} }

// Resolve implements platform.Platform.
func (p *Platform) Resolve(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requested[a] = true
}

// Requested reports whether the engine has asked for this address to be resolved.
func (p *Platform) Requested(addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requested[netip.MustParseAddr(addr)]
}

// SetNeighbours implements platform.Platform.
func (p *Platform) SetNeighbours(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.neighbours = slices.Clone(addrs)
}

// Neighbours returns the addresses that the engine asked to keep resolved.
func (p *Platform) Neighbours() []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.neighbours)
}

// Stats implements platform.Platform. The engine must not ask about closed queues: the platform may
// be reconfiguring the port.
func (p *Platform) Stats(port, queue int) platform.QueueStats {
	if p.Closed(port) {
		p.ledger.breach("the statistics of a closed queue were requested")
	}
	return p.queue(port, queue).stats()
}

// Close implements platform.Platform.
func (p *Platform) Close() error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	p.mu.Unlock()
	if again {
		return errors.New("the platform was closed twice")
	}
	var err error
	p.every(func(_, _ int, q *queue) {
		if !q.closed {
			_, _, e := q.close()
			err = errors.Join(err, e)
		}
	})
	return err
}
