package truepath

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// Path is how packets reach one backend of one service. It is immutable.
type Path struct {
	VIP     packet.Addr // the service's address,
	Port    uint16      // and the probed port
	Own     packet.Addr // our address that the backend answers to, of the service's family
	Mode    service.Mode
	Backend packet.Addr  // tun: outer destination
	Outer   packet.Addr  // tun: outer source
	Link    rewrite.Link // to the next hop
	Ifindex int          // of the port that leads to the next hop
	Why     string       // why nothing can be sent; "": it can
}

// Detour is the device through which probes of tun and dr backends are routed, with the flows
// through it. Any goroutine may call its methods.
type Detour struct {
	device *device
	wire   int // AF_PACKET socket; receives nothing
	ports  service.Ports
	ended  chan struct{}
	paths  atomic.Pointer[map[packet.Addr]*Path] // by target; read by the reading goroutine

	mu       sync.Mutex // guards the fields below
	targets  map[service.BackendID]netip.Addr
	next     uint16
	used     map[uint16]bool
	troubles map[netip.Addr]string // by target: why the last packet was not sent
}

// Open creates the device in the network namespace of the calling thread and starts to carry
// packets. Probes are sent from ports of our addresses. It needs CAP_NET_ADMIN and CAP_NET_RAW;
// errors name what is missing.
func Open(ports service.Ports) (*Detour, error) {
	wire, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = errors.New("sending probes needs CAP_NET_RAW: run as root, or give the service AmbientCapabilities=CAP_NET_RAW")
		}
		return nil, err
	}
	device, err := openDevice()
	if err != nil {
		unix.Close(wire)
		return nil, err
	}
	d := &Detour{
		device: device, wire: wire, ports: ports, ended: make(chan struct{}),
		targets: make(map[service.BackendID]netip.Addr), next: firstTarget, used: make(map[uint16]bool),
		troubles: make(map[netip.Addr]string),
	}
	d.paths.Store(&map[packet.Addr]*Path{})
	go d.read()
	return d, nil
}

// Close removes the device. Probes that are still running fail. It must be called only once.
func (d *Detour) Close() error {
	err := d.device.file.Close()
	<-d.ended
	return errors.Join(err, unix.Close(d.wire))
}

// Ifindex returns the index of the device, to redirect answers to.
func (d *Detour) Ifindex() int { return d.device.link.Attrs().Index }

// Ended returns a channel that is closed when the device is gone: removed by another program, or by
// Close.
func (d *Detour) Ended() <-chan struct{} { return d.ended }

// Name returns the name of the device.
func (d *Detour) Name() string { return d.device.link.Attrs().Name }

// Ports returns the ports of our addresses that probes are sent from.
func (d *Detour) Ports() service.Ports { return d.ports }

// Target returns the address that a probe of this backend connects to. It is valid until Set is
// called without the backend. The error is meant for the operator.
func (d *Detour) Target(id service.BackendID) (netip.Addr, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target(id)
}

// target is Target without locking; the caller holds mu.
func (d *Detour) target(id service.BackendID) (netip.Addr, error) {
	f := &d.device.v6
	if id.Service.Address.Is4() {
		f = &d.device.v4
	}
	if f.err != nil {
		return netip.Addr{}, f.err
	}
	if a, ok := d.targets[id]; ok {
		return a, nil
	}
	if len(d.used) > lastTarget-firstTarget {
		return netip.Addr{}, fmt.Errorf("more than %d backends", lastTarget-firstTarget)
	}
	for d.used[d.next] {
		d.step()
	}
	a := target(f.targets, d.next)
	d.used[d.next], d.targets[id] = true, a
	d.step()
	return a, nil
}

// step advances to the next number; a released number is assigned again last.
func (d *Detour) step() {
	if d.next++; d.next > lastTarget {
		d.next = firstTarget
	}
}

// Set replaces the paths. Targets of other backends are released.
func (d *Detour) Set(paths map[service.BackendID]*Path) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, a := range d.targets {
		if paths[id] == nil {
			delete(d.used, number(a))
			delete(d.targets, id)
			delete(d.troubles, a)
		}
	}
	byTarget := make(map[packet.Addr]*Path, len(paths))
	for id, path := range paths {
		if a, err := d.target(id); err == nil { // else it is not probed this way
			byTarget[packet.AddrFrom(a)] = path
		}
	}
	d.paths.Store(&byTarget)
}

// Ready returns an error if a probe of the target cannot be sent. It clears the target's last
// error.
func (d *Detour) Ready(target netip.Addr) error {
	d.mu.Lock()
	delete(d.troubles, target)
	d.mu.Unlock()
	path := (*d.paths.Load())[packet.AddrFrom(target)]
	switch {
	case path == nil:
		return errors.New("the backend is no longer configured")
	case path.Why != "":
		return errors.New(path.Why)
	}
	return nil
}

// Trouble returns why a packet to the target was not sent since Ready; "": all were sent.
func (d *Detour) Trouble(target netip.Addr) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.troubles[target]
}

// read reads frames from the device until it is closed: those of sockets, and those that XDP
// redirected.
func (d *Detour) read() {
	defer close(d.ended)
	t := &translator{
		flows: newFlows(d.ports), mac: d.device.mac,
		own: [2]packet.Addr{packet.AddrFrom(d.device.v4.own), packet.AddrFrom(d.device.v6.own)},
	}
	mem := make([]byte, 1<<16-1)
	for {
		n, err := d.device.file.Read(mem[headroom:])
		if err != nil {
			if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EAGAIN) {
				continue
			}
			return // closed, or the interface was deleted
		}
		d.handle(t, mem, headroom+n)
	}
}

// handle forwards one frame, mem[headroom:end].
func (d *Detour) handle(t *translator, mem []byte, end int) {
	r := t.translate(*d.paths.Load(), mem, end, time.Now())
	frame := mem[r.start:r.end]
	switch {
	case r.err == nil && len(frame) == 0:
	case r.err == nil && r.path == nil:
		_, _ = d.device.file.Write(frame) // a lost frame is sent again, or the probe fails
	case r.err == nil:
		r.err = unix.Sendto(d.wire, frame, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: r.path.Ifindex})
	}
	if r.err != nil {
		d.mu.Lock()
		d.troubles[r.target] = r.err.Error()
		d.mu.Unlock()
	}
}
