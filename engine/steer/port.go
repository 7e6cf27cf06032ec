package steer

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Mode is where the kernel runs the program. The zero Mode is none.
type Mode uint8

// The modes.
const (
	Native  Mode = iota + 1 // in the driver, before the kernel allocates anything
	Generic                 // in the network stack: every interface can, but slower
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

// flags is the mode for link and netlink calls.
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
	link     link.Link
	sockets  xdp.Program
	counters *ebpf.Map
}

// Counters tell what became of the frames that the port received: each counts in exactly one of
// them. Frames that a socket had no room for are in Redirected, and in that socket's
// XDP_STATISTICS.
type Counters struct {
	Passed     uint64 // passed to the kernel
	Redirected uint64 // handed to the queue's socket
	Detoured   uint64 // answers to probes, redirected to Detour's interface
	NoSocket   uint64 // ours, and dropped because the queue has no socket
}

// Attach starts the program on an interface of the calling thread's network namespace. No socket is
// registered yet: from now on traffic for a service is dropped.
//
// Errors: ErrNoNative; *ForeignError and *BusyError when somebody else's XDP program, or a running
// Sluice, has the interface (after about a second, for a process may just be exiting). What a
// Sluice that no longer runs has left is replaced.
func (p *Program) Attach(ifindex int, mode Mode) (*Port, error) {
	if mode != Native && mode != Generic {
		return nil, fmt.Errorf("steer: XDP %s: the modes are native and generic", mode)
	}
	var objects struct {
		Program  *ebpf.Program `ebpf:"sluice_steer"`
		Queues   *ebpf.Map     `ebpf:"queues"`
		Sockets  *ebpf.Map     `ebpf:"sockets"`
		Counters *ebpf.Map     `ebpf:"counters"`
	}
	shared := map[string]*ebpf.Map{
		steerMapAddresses: p.addresses,
		steerMapPorts:     p.ports,
		steerMapRanges:    p.ranges,
		steerMapDetour:    p.detour,
	}
	if err := p.spec.LoadAndAssign(&objects, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		return nil, fmt.Errorf("steer: the kernel (it must be 5.18 or newer) refuses the XDP program: %w", explain(err))
	}
	port := &Port{
		ifindex:  ifindex,
		mode:     mode,
		sockets:  xdp.Program{Program: objects.Program, Queues: objects.Queues, Sockets: objects.Sockets},
		counters: objects.Counters,
	}
	if err := port.attach(); err != nil {
		return nil, errors.Join(err, port.Close())
	}
	return port, nil
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
		return fmt.Errorf("steer: there is no interface with index %d: %w", p.ifindex, err)
	}
	p.name = device.Attrs().Name
	if err := makeRoom(device); err != nil {
		return err
	}
	p.link, err = link.AttachXDP(link.XDPOptions{
		Program:   p.sockets.Program,
		Interface: p.ifindex,
		Flags:     p.mode.flags(),
	})
	return p.explainAttach(err)
}

// explainAttach says what the kernel means. Drivers refuse native mode with errors of their own
// choice, so each that isn't known to mean something else counts as that.
func (p *Port) explainAttach(err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &errno) || errno == syscall.ENODEV || errno == syscall.EPERM:
		return fmt.Errorf("steer: attaching to interface %s: %w", p.name, explain(err))
	case errno == syscall.EBUSY || errno == syscall.EEXIST:
		return fmt.Errorf("steer: interface %s: another XDP program came or went meanwhile: %w", p.name, err)
	case p.mode == Generic:
		return fmt.Errorf("steer: interface %s refuses generic XDP: %w", p.name, err)
	}
	why := "the driver refuses it"
	switch errno {
	case syscall.EOPNOTSUPP:
		why = "the driver has none, or an offload like LRO is in the way"
	case syscall.ERANGE:
		why = "the MTU is too large for it"
	case syscall.ENOSPC, syscall.ENOMEM:
		why = "it needs more queues or memory than there is"
	}
	return fmt.Errorf("steer: interface %s: %w: %s: %w", p.name, ErrNoNative, why, err)
}

// Interface is the port's name when it was attached.
func (p *Port) Interface() string { return p.name }

// Mode is how the program runs.
func (p *Port) Mode() Mode { return p.mode }

// Register redirects what the queue receives to the AF_XDP socket fd, which must be bound to this
// interface and queue for the frames to arrive.
func (p *Port) Register(queue, fd int) error {
	if limit := int(p.sockets.Sockets.MaxEntries()); queue < 0 || queue >= limit {
		return fmt.Errorf("steer: interface %s has no queue %d for us: the XDP program's map takes 0-%d", p.name, queue, limit-1)
	}
	if err := p.sockets.Register(queue, fd); err != nil {
		return fmt.Errorf("steer: interface %s, queue %d: registering its socket: %w", p.name, queue, err)
	}
	return nil
}

// Unregister ends what Register began: service traffic on the queue is dropped from now on. Call it
// before the socket is closed. It is an error if nothing is registered.
func (p *Port) Unregister(queue int) error {
	if err := p.sockets.Unregister(queue); err != nil {
		return fmt.Errorf("steer: interface %s, queue %d: unregistering its socket: %w", p.name, queue, err)
	}
	return nil
}

// Counters reads the counters: sums over all CPUs since Attach, each monotonic, not all from the
// same instant.
func (p *Port) Counters() (Counters, error) {
	var c Counters
	for outcome, sum := range map[steerOutcome]*uint64{
		steerOutcomePASSED:     &c.Passed,
		steerOutcomeREDIRECTED: &c.Redirected,
		steerOutcomeNO_SOCKET:  &c.NoSocket,
		steerOutcomeDETOURED:   &c.Detoured,
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

// Close detaches the program; the interface's traffic is the kernel's again, service traffic too.
// It is safe to call twice.
func (p *Port) Close() error {
	var err error
	if p.link != nil {
		err = p.link.Close()
	}
	err = errors.Join(err, p.sockets.Close(), p.counters.Close())
	p.link, p.counters = nil, nil
	return err
}
