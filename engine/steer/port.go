package steer

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Mode is where the kernel runs the program. The zero Mode is not valid.
type Mode uint8

// The modes.
const (
	Native  Mode = iota + 1 // in the driver, before the kernel allocates anything
	Generic                 // in the network stack: slower, but possible on every interface
)

// String gives the name that log lines use.
func (m Mode) String() string {
	switch m {
	case Native:
		return "native"
	case Generic:
		return "generic"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// flags returns the mode for link and netlink calls.
func (m Mode) flags() link.XDPAttachFlags {
	if m == Native {
		return link.XDPDriverMode
	}
	return link.XDPGenericMode
}

// ErrNoNative means that the interface's driver refuses a native program, now or always; Generic
// may work.
var ErrNoNative = errors.New("no native XDP")

// Port is an interface that the program runs on. Its methods may be called from any goroutine, but
// none during or after Close.
type Port struct {
	name     string
	ifindex  int
	mode     Mode
	sockets  xdp.Program // its Program may be loaded later, under mu
	counters *ebpf.Map
	beats    heartbeats
	leave    bool   // it stays attached when it is closed
	holder   Holder // of copies of link and maps; nil: there is none

	later later // what AttachLater has begun

	mu      sync.Mutex // guards the fields below
	link    link.Link
	program ebpf.ProgramID
	former  *formerLink // stands in for link until the first Set; nil: does not
}

// Counters count the frames that the port received, each in exactly one counter. Frames that a
// socket's ring had no space for count in Redirected, and in that socket's XDP_STATISTICS.
type Counters struct {
	Passed     uint64 // passed to the kernel
	Redirected uint64 // handed to the queue's socket
	Detoured   uint64 // answers to probes, redirected to Detour's interface
	NoSocket   uint64 // for Sluice, and dropped because the queue has no socket
	NoWorker   uint64 // for Sluice, and dropped because the queue's worker gives no heartbeat
}

// Attach starts the program on an interface of the calling thread's network namespace. No socket is
// registered yet: from now on service traffic is dropped.
//
// The error is ErrNoNative, or *ForeignError or *BusyError if another XDP program or a running
// Sluice is on the interface. Attach tries for about a second, because the other process may be
// exiting. It replaces the program of a Sluice that no longer runs.
func (p *Program) Attach(ifindex int, mode Mode) (*Port, error) {
	if mode != Native && mode != Generic {
		return nil, fmt.Errorf("steer: XDP %s: the modes are native and generic", mode)
	}
	port, err := p.newPort(ifindex, mode)
	if err == nil {
		err = p.load(port)
	}
	if err == nil && !p.adopt(port) {
		err = port.attach()
	}
	if err != nil {
		return nil, errors.Join(err, port.Close())
	}
	return port, nil
}

// newPort returns a port with its own maps, without a program.
func (p *Program) newPort(ifindex int, mode Mode) (*Port, error) {
	port := &Port{ifindex: ifindex, mode: mode}
	for name, m := range map[string]**ebpf.Map{
		steerMapQueues: &port.sockets.Queues, steerMapSockets: &port.sockets.Sockets,
		steerMapCounters: &port.counters, steerMapHeartbeats: &port.beats.m,
	} {
		var err error
		if former := p.lasting[lastingName(name, port.number())]; former != nil {
			*m, err = former.Clone()
		} else {
			*m, err = ebpf.NewMap(p.spec.Maps[name])
		}
		if err != nil {
			return port, fmt.Errorf("steer: creating the XDP program's maps: %w", explain(err))
		}
	}
	return port, port.beats.open()
}

// load loads the port's program. Nearly all of its time, some hundred milliseconds, the kernel
// verifies it.
func (p *Program) load(port *Port) error {
	var objects struct {
		Program *ebpf.Program `ebpf:"sluice_steer"`
	}
	all := map[string]*ebpf.Map{
		steerMapAddresses:  p.addresses,
		steerMapPorts:      p.ports,
		steerMapRanges:     p.ranges,
		steerMapStations:   p.stations,
		steerMapOwn:        p.own,
		steerMapDetour:     p.detour,
		steerMapOpened:     p.opened,
		steerMapFragments:  p.fragments,
		steerMapQueues:     port.sockets.Queues,
		steerMapSockets:    port.sockets.Sockets,
		steerMapCounters:   port.counters,
		steerMapHeartbeats: port.beats.m,
	}
	if err := p.spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: all}); err != nil {
		return fmt.Errorf("steer: the kernel (it must be 5.18 or newer) refuses the XDP program: %w", explain(err))
	}
	info, err := objects.Program.Info()
	port.mu.Lock()
	defer port.mu.Unlock()
	port.sockets.Program = objects.Program
	if err == nil {
		port.program, _ = info.ID()
	}
	return err
}

// How often and how far apart Attach tries an interface that is busy.
const (
	attachAttempts = 11
	attachPause    = 100 * time.Millisecond
)

func (p *Port) attach() error {
	for attempt := 1; ; attempt++ {
		err := p.tryAttach()
		var busy *BusyError
		transient := errors.As(err, &busy) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EEXIST)
		if !transient || attempt == attachAttempts {
			return err
		}
		time.Sleep(attachPause)
	}
}

func (p *Port) tryAttach() error {
	device, err := netlink.LinkByIndex(p.ifindex)
	if err != nil {
		return fmt.Errorf("steer: no interface has the index %d: %w", p.ifindex, err)
	}
	p.name = device.Attrs().Name
	if err := clearDevice(device); err != nil {
		return err
	}
	p.link, err = link.AttachXDP(link.XDPOptions{
		Program:   p.sockets.Program,
		Interface: p.ifindex,
		Flags:     p.mode.flags(),
	})
	return p.explainAttach(err)
}

// Restore attaches the program again if another process has detached it, for example by `bpftool
// link detach`, or has replaced it by another one in its link. lost says which, "detached" or
// "replaced"; "": neither. It is not an error if the interface no longer exists.
func (p *Port) Restore() (lost string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.former != nil {
		return "", p.later.err
	}
	if p.link == nil { // the former program is gone, and this one could not take its place
		if err := p.tryAttach(); err != nil {
			return "detached", err
		}
		return "detached", p.hold()
	}
	info, err := p.link.Info()
	if err != nil {
		return "", fmt.Errorf("steer: interface %s: reading the state of the XDP program's link: %w", p.name, err)
	}
	if x := info.XDP(); x != nil && x.Ifindex == uint32(p.ifindex) {
		if info.Program == p.program {
			return "", nil
		}
		return "replaced", p.putBack(info.Program)
	}
	if _, err := netlink.LinkByIndex(p.ifindex); errors.As(err, new(netlink.LinkNotFoundError)) {
		return "", nil
	}
	old := p.link
	if err := p.tryAttach(); err != nil {
		p.link = old
		return "detached", err
	}
	return "detached", errors.Join(old.Close(), p.hold())
}

// putBack puts the program into the link in place of another one.
func (p *Port) putBack(other ebpf.ProgramID) error {
	if err := p.link.Update(p.sockets.Program); err != nil {
		return fmt.Errorf("steer: interface %s: replacing program %d, which is not Sluice's: %w", p.name, other, explain(err))
	}
	return nil
}

// explainAttach returns an error with the cause in words. Drivers refuse native mode with errors of
// their choice, so an error without a known meaning counts as that.
func (p *Port) explainAttach(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &errno) || errno == syscall.ENODEV || errno == syscall.EPERM:
		return fmt.Errorf("steer: attaching to interface %s: %w", p.name, explain(err))
	case errno == syscall.EBUSY || errno == syscall.EEXIST:
		return fmt.Errorf("steer: interface %s: another XDP program was attached or detached meanwhile: %w", p.name, err)
	case p.mode == Generic:
		return fmt.Errorf("steer: interface %s refuses generic XDP: %w", p.name, err)
	}
	why := "the driver refuses it"
	switch errno {
	case syscall.EOPNOTSUPP:
		why = "the driver has none, or an offload such as LRO prevents it"
	case syscall.ERANGE:
		why = "the MTU is too large for it"
	case syscall.ENOSPC, syscall.ENOMEM:
		why = "it needs more queues or memory than are free"
	}
	return fmt.Errorf("steer: interface %s: %w: %s: %w", p.name, ErrNoNative, why, err)
}

// Interface returns the name that the interface had when it was attached.
func (p *Port) Interface() string { return p.name }

// Mode returns where the kernel runs the program.
func (p *Port) Mode() Mode { return p.mode }

// Register makes the AF_XDP socket fd receive the queue's frames. The socket must be bound to this
// interface and queue.
func (p *Port) Register(queue, fd int) error {
	if limit := int(p.sockets.Sockets.MaxEntries()); queue < 0 || queue >= limit {
		return fmt.Errorf("steer: interface %s: no socket for queue %d: the XDP program's map takes queues 0-%d", p.name, queue, limit-1)
	}
	if err := p.sockets.Register(queue, fd); err != nil {
		return fmt.Errorf("steer: interface %s, queue %d: registering its socket: %w", p.name, queue, err)
	}
	return nil
}

// Unregister undoes Register: from now on service traffic on the queue is dropped. It must be
// called before the socket is closed. It is an error if no socket is registered.
func (p *Port) Unregister(queue int) error {
	if err := p.sockets.Unregister(queue); err != nil {
		return fmt.Errorf("steer: interface %s, queue %d: unregistering its socket: %w", p.name, queue, err)
	}
	return nil
}

// Counters returns the sums over all CPUs since Attach, or since that of the process from which the
// port's link was inherited. Each is monotonic; they are not all from the same instant.
func (p *Port) Counters() (Counters, error) {
	var c Counters
	for outcome, sum := range map[steerOutcome]*uint64{
		steerOutcomePASSED:     &c.Passed,
		steerOutcomeREDIRECTED: &c.Redirected,
		steerOutcomeNO_SOCKET:  &c.NoSocket,
		steerOutcomeDETOURED:   &c.Detoured,
		steerOutcomeNO_WORKER:  &c.NoWorker,
	} {
		var perCPU []uint64
		if err := p.counters.Lookup(outcome, &perCPU); err != nil {
			return Counters{}, fmt.Errorf("steer: interface %s: reading the XDP program's counters: %w", p.name, err)
		}
		for _, n := range perCPU {
			*sum += n
		}
	}
	return c, nil
}

// Close detaches the program: all traffic of the interface passes to the kernel, service traffic
// too. No worker uses the port's heartbeats any more. A former program that has not been replaced
// yet stays. It is safe to call twice.
func (p *Port) Close() error {
	p.later.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(p.detach(), p.sockets.Close(), p.counters.Close(), p.beats.close())
	p.link, p.counters, p.former = nil, nil, nil
	return err
}
