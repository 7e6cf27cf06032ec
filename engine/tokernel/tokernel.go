// Package tokernel gives the kernel what nat backends send of their own accord: packets that the
// steering program took for replies, but that belong to no connection.
//
//	worker ─► Outlet: limit, ring of copies ─► Path: one goroutine ─► TUN device ─► kernel
//
// The kernel receives them from the device sluice-kernelN as it would have from the port: it routes
// them, its firewall and its masquerading apply, it decrements the TTL, fragments what is too long
// or answers with ICMP. Answers come back through the ports, and are the kernel's by the rules of
// steering: they are sent to this host, or to the backend from no service. Checksums are as the
// backend sent them.
//
// The device has no address but 192.0.0.8, no route leads to it, and nothing is read from it. It is
// made when the first service needs it, and ends with the process. If it is removed or cannot be
// made, packets are dropped as if this package did not exist, an alarm tells why, and it is tried
// again.
//
// A worker neither allocates nor waits, and makes a system call only to wake the goroutine when
// that sleeps. Beyond PerSecond and Burst, and if the ring is full, packets are dropped by name.
//
// The package knows platform and cpu, counter, service and rings; it must not import worker, which
// uses it.
package tokernel

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
	"sluice/rings"
)

// Path carries packets from the workers to the kernel. Any goroutine may call its methods. A nil
// Path carries none, and can be closed.
type Path struct {
	open    func() (platform.Device, error) // nil: the platform has no device
	changed func()
	log     *slog.Logger
	outlets []*Outlet
	from    []*rings.Consumer[copied] // of each worker
	sleeper *cpu.Sleeper
	asleep  atomic.Bool // the goroutine sleeps, or is about to: see Outlet.wake
	usable  atomic.Bool // there is a device
	stopped atomic.Bool
	ended   chan struct{}
	failed  atomic.Uint64

	mu     sync.Mutex // guards the fields below
	wanted bool
	device platform.Device // nil: none; while there is one, only the goroutine changes it
	err    error           // why there is none although it is wanted
	tried  time.Time
}

// retryPause is the least time between two attempts to make the device.
const retryPause = time.Second

// New makes a Path for this number of workers, and starts its goroutine. on makes its device if it
// is a platform.Injector. changed is called when the result of Alarm may have changed, with a lock
// held that Alarm needs: it must not call back, nor block.
func New(workers int, on platform.Platform, changed func(), log *slog.Logger) (*Path, error) {
	sleeper, err := cpu.NewSleeper()
	if err != nil {
		return nil, err
	}
	p := &Path{changed: changed, log: log, sleeper: sleeper, ended: make(chan struct{})}
	if injector, able := on.(platform.Injector); able {
		p.open = injector.Inject
	}
	for range workers {
		ring, from := rings.NewSPSC[copied](slots)
		p.outlets = append(p.outlets, &Outlet{path: p, ring: ring, mem: make([]byte, 2*slots*platform.FrameSize), limit: counter.NewLimiter(Burst)})
		p.from = append(p.from, from)
	}
	go p.run()
	return p, nil
}

// Outlet returns the end for a worker.
func (p *Path) Outlet(worker int) *Outlet { return p.outlets[worker] }

// Want says where replies of nat backends come from. If packets from there may have to be given to
// the kernel, the device is made now, or as soon as possible.
func (p *Path) Want(replies []service.Key) {
	if p == nil {
		return
	}
	wanted := slices.ContainsFunc(replies, func(from service.Key) bool {
		return from.Protocol == service.UDP || !from.Ports.Single() // else RST is the answer
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted != wanted {
		p.wanted, p.tried = wanted, time.Time{}
		p.ensure()
		p.changed()
	}
}

// Alarm returns what an operator should know; "": nothing.
func (p *Path) Alarm() string {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted || p.err == nil {
		return ""
	}
	return fmt.Sprintf("what nat backends send of their own accord (UDP, or TCP without a SYN seen) does not reach the kernel and is dropped (no_connection): %v. "+
		"It is tried again every %s", p.err, retryPause)
}

// Failed returns how many of the packets that workers gave were lost: the device was removed, or
// the kernel had no memory.
func (p *Path) Failed() uint64 {
	if p == nil {
		return 0
	}
	return p.failed.Load()
}

// Stop ends the goroutine and frees nothing: a worker that hangs may still send.
func (p *Path) Stop() {
	if p == nil {
		return
	}
	p.stopped.Store(true)
	p.sleeper.Wake()
	<-p.ended
}

// Close ends the goroutine and removes the device. The workers have stopped.
func (p *Path) Close() error {
	if p == nil {
		return nil
	}
	p.Stop()
	err := p.sleeper.Close()
	if p.device != nil {
		err = errors.Join(err, p.device.Close())
	}
	return err
}

// ensure makes the device if it is wanted and there is none, unless that failed a moment ago. The
// caller holds mu.
func (p *Path) ensure() {
	if !p.wanted || p.open == nil || p.device != nil || time.Since(p.tried) < retryPause {
		return
	}
	p.tried = time.Now()
	device, err := p.open()
	if err != nil {
		p.note(err)
		return
	}
	p.device, p.err = device, nil
	p.usable.Store(true)
	p.log.Info("what nat backends send of their own accord goes to the kernel", "device", device.Name())
	p.changed()
}

// note stores why there is no device, and logs it unless that is known. The caller holds mu.
func (p *Path) note(err error) {
	if p.err != nil && p.err.Error() == err.Error() {
		return
	}
	p.log.Error("what nat backends send of their own accord does not reach the kernel", "event", "to_kernel_failed", "err", err)
	p.err = err
	p.changed()
}

// run writes packets to the device until Close.
func (p *Path) run() {
	defer close(p.ended)
	for !p.stopped.Load() {
		if p.drain() {
			continue
		}
		p.asleep.Store(true)
		if !p.waiting() && !p.stopped.Load() {
			p.sleeper.Sleep(int(retryPause / time.Millisecond))
		}
		p.asleep.Store(false)
		p.mu.Lock()
		p.ensure()
		p.mu.Unlock()
	}
}

// waiting reports whether a ring has packets.
func (p *Path) waiting() bool {
	for _, ring := range p.from {
		if ring.Len() > 0 {
			return true
		}
	}
	return false
}

// drain writes at most one ring's length of each worker's packets, and reports whether there were
// any.
func (p *Path) drain() (any bool) {
	var one [1]copied
	for worker, ring := range p.from {
		for n := ring.Len(); n > 0 && ring.Pop(one[:]) > 0; n-- {
			any = true
			c := one[0]
			p.write(p.outlets[worker].mem[c.at : c.at+c.length])
		}
	}
	return any
}

// write writes a packet to the device.
func (p *Path) write(packet []byte) {
	err := errNoDevice
	if p.usable.Load() { // then the goroutine alone changes device
		_, err = p.device.Write(packet)
	}
	if err == nil {
		return
	}
	p.failed.Add(1)
	switch {
	case errors.Is(err, errNoDevice):
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EINVAL):
		// lost, as on any interface
	default:
		p.lose(err)
	}
}

var errNoDevice = errors.New("no device")

// lose gives up the device, which another process has removed or set down.
func (p *Path) lose(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.usable.Store(false)
	name := p.device.Name()
	_ = p.device.Close()
	p.device, p.tried = nil, time.Now()
	p.note(fmt.Errorf("another process has removed the device %s, or set it down: %w", name, err))
}
