package loops

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"sluice/engine/cpu"
	"sluice/engine/steer"
	"sluice/engine/xsk"
	"sluice/pipeline/service"
	"sluice/rings"
)

// The values of the engine: engine/platform/linux, engine/rest.go, and the default of engine.batch.
const (
	ringSize      = 2048
	batch         = 64
	idleTurns     = 100
	restPendingMs = 1
	restIdleMs    = 100
)

// empty is the engine's worker without a pipeline.
type empty struct {
	umem    *xsk.UMEM
	mem     []byte
	program *steer.Program
	ports   []*steer.Port
	queues  []*xsk.Socket // in, out
	next    int
	free    []uint64
	out     []rings.Desc
	descs   []rings.Desc
	addrs   []uint64
	macs    [12]byte // destination, source
	sleeper *cpu.Sleeper
	idle    int
	stats   Counters
	sleeps  uint64
	pending uint64 // given to the out queue and not reclaimed
}

func newEmpty(c Config) (*empty, error) {
	e := &empty{descs: make([]rings.Desc, batch), addrs: make([]uint64, ringSize), out: make([]rings.Desc, 0, batch)}
	copy(e.macs[:6], c.To)
	copy(e.macs[6:], c.Source)
	if err := e.open(c); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *empty) open(c Config) (err error) {
	const framesPerQueue = 3 * ringSize
	if e.umem, err = xsk.NewUMEM(2*framesPerQueue, -1); err != nil {
		return err
	}
	e.mem = e.umem.Mem()
	for i := range e.umem.Frames() {
		e.free = append(e.free, uint64(i)*xsk.FrameSize)
	}
	if e.program, err = steer.Load(); err != nil {
		return err
	}
	rules := steered(c)
	for _, name := range []string{c.In, c.Out} {
		device, err := net.InterfaceByName(name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", name, err)
		}
		if err := e.openPort(device); err != nil {
			return err
		}
		rules.Stations = append(rules.Stations, steer.Station{Ifindex: device.Index, MAC: [6]byte(device.HardwareAddr)})
	}
	if err := e.program.Set(rules); err != nil {
		return err
	}
	if e.sleeper, err = cpu.NewSleeper(); err != nil {
		return err
	}
	e.sleeper.Watch([]int{e.queues[0].FD(), e.queues[1].FD()})
	return nil
}

// steered returns the rules of a balancer with a service on each port.
func steered(c Config) (r steer.Rules) {
	for i := range c.Ports {
		port := c.FirstPort + uint16(i)
		for _, protocol := range []service.Protocol{service.UDP, service.TCP} {
			r.Services = append(r.Services, service.Key{
				Address: netip.MustParseAddr(c.Address), Ports: service.Ports{First: port, Last: port}, Protocol: protocol,
			})
		}
	}
	return r
}

func (e *empty) openPort(device *net.Interface) error {
	port, err := e.program.Attach(device.Index, steer.Native)
	if err != nil {
		return err
	}
	e.ports = append(e.ports, port)
	q, err := xsk.Open(xsk.Config{
		Ifindex: device.Index, Ifname: device.Name, UMEM: e.umem, Mode: xsk.Copy, NeedWakeup: true,
		RX: ringSize, TX: ringSize, Fill: ringSize, Completion: ringSize,
	})
	if err != nil {
		return err
	}
	e.queues = append(e.queues, q)
	return port.Register(0, q.FD())
}

// turn does what one turn of a worker's loop does.
func (e *empty) turn() error {
	n := e.receive()
	took := e.queues[1].Transmit(e.out)
	e.pending += uint64(took)
	for _, d := range e.out[took:] {
		e.give(d.Addr)
	}
	e.out = e.out[:0]
	e.stats.Sent += uint64(took)
	for _, q := range e.queues {
		if err := q.Kick(); err != nil {
			return err
		}
	}
	for _, q := range e.queues {
		reclaimed := q.Reclaim(e.addrs[:batch])
		e.pending -= uint64(reclaimed)
		for _, addr := range e.addrs[:reclaimed] {
			e.give(addr)
		}
	}
	e.rest(n)
	return nil
}

// receive takes a batch from the queues in turn and rewrites each frame.
func (e *empty) receive() (n int) {
	for range e.queues {
		q := e.queues[e.next]
		e.next = (e.next + 1) % len(e.queues)
		got := q.Receive(e.descs[:batch-n])
		for _, d := range e.descs[:got] {
			copy(e.mem[d.Addr:d.Addr+uint64(len(e.macs))], e.macs[:])
			e.out = append(e.out, d)
		}
		n += got
		e.refill(q)
	}
	return n
}

func (e *empty) give(addr uint64) { e.free = append(e.free, addr&^(xsk.FrameSize-1)) }

func (e *empty) refill(q *xsk.Socket) {
	top := e.free[len(e.free)-min(batch, len(e.free)):]
	took := q.Refill(top)
	copy(top, top[took:])
	e.free = e.free[:len(e.free)-took]
}

func (e *empty) rest(n int) {
	if n > 0 {
		e.idle = 0
		e.stats.Turns++
		e.stats.Frames += uint64(n)
		return
	}
	if e.idle++; e.idle < idleTurns {
		return
	}
	timeoutMs := restIdleMs
	if e.pending > 0 {
		timeoutMs = restPendingMs
	}
	e.sleeps++
	e.sleeper.Sleep(timeoutMs)
}

func (e *empty) counters() Counters {
	c := e.stats
	c.Syscalls = e.sleeps
	for _, q := range e.queues {
		c.Syscalls += q.Counters().Syscalls
	}
	return c
}

func (e *empty) close() error {
	var errs []error
	for _, p := range e.ports {
		errs = append(errs, p.Close())
	}
	for _, q := range e.queues {
		_, err := q.Close()
		errs = append(errs, err)
	}
	if e.program != nil {
		errs = append(errs, e.program.Close())
	}
	if e.umem != nil {
		errs = append(errs, e.umem.Close())
	}
	if e.sleeper != nil {
		errs = append(errs, e.sleeper.Close())
	}
	return errors.Join(errs...)
}
