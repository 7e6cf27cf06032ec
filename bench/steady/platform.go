package steady

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/service"
)

// port is the platform: one port with one queue, and a gateway that leads everywhere.
type port struct {
	queue
	cores   []int
	memory  [][]byte
	restore func()

	heartbeat atomic.Int64 // as a queue of the kernel has it
}

const (
	portName = "eth0"
	// chunks is how many frames the UMEM has: those that arrive in a tenth of a second.
	chunks = 8192
	mtu    = 1500
)

var (
	gateway    = netip.MustParseAddr("203.0.113.1")
	own        = netip.MustParsePrefix("203.0.113.2/24")
	portMAC    = [6]byte{2, 0, 0, 0, 0, 9}
	gatewayMAC = [6]byte{2, 0, 0, 0, 0, 1}
)

// Cores implements platform.Platform.
func (p *port) Cores(configured []int) (cores []int, err error) {
	p.cores, err = cpu.Cores(configured)
	return p.cores, err
}

// Follow implements platform.Platform.
func (p *port) Follow(_ []conf.Port, publish func(*route.Snapshot)) error {
	publish(&route.Snapshot{
		Ports:  []route.PortState{{Name: portName, Exists: true, Ifindex: 1, MAC: portMAC, MTU: mtu, Up: true, Prefixes: []netip.Prefix{own}}},
		Locals: []netip.Addr{own.Addr()},
		Asked:  func(nexthop.Hop) bool { return false },
		Table: nexthop.Build(
			[]nexthop.PortInfo{{MAC: portMAC, MTU: mtu, Up: true, Name: portName}},
			[]nexthop.Route{{Prefix: own.Masked()}, {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway}},
			[]nexthop.Neighbour{{Addr: gateway, MAC: gatewayMAC}}),
	})
	return nil
}

// Open implements platform.Platform.
func (p *port) Open(ports []conf.Port, workers int) (*platform.Hardware, error) {
	if len(ports) != 1 || workers != 1 {
		return nil, fmt.Errorf("the memory port has one queue, not %d ports and %d workers", len(ports), workers)
	}
	p.restore = cpu.QuietRuntime(p.cores, slog.New(slog.DiscardHandler))
	umem, err := p.Memory("", chunks*platform.FrameSize, p.cores[0])
	if err != nil {
		return nil, err
	}
	p.umem = umem
	p.arrival = make([]int64, chunks)
	p.fill, p.sent = make([]uint64, 0, chunks), make([]uint64, 0, chunks)
	return &platform.Hardware{UMEM: umem, Ports: []platform.HardwarePort{{
		Name: portName, Ifindex: 1, IO: string(conf.IOCopy), Queues: []platform.HardwareQueue{{Queue: &p.queue, Heartbeat: &p.heartbeat}},
	}}}, nil
}

// Memory implements platform.Platform.
func (p *port) Memory(_ string, bytes, _ int) ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory of %d bytes: %w", bytes, err)
	}
	p.memory = append(p.memory, mem)
	return mem, nil
}

// LocalPortRange implements platform.Platform: Linux's default.
func (p *port) LocalPortRange() service.Ports { return service.Ports{First: 32768, Last: 60999} }

// Close implements platform.Platform.
func (p *port) Close() (err error) {
	p.clock.close()
	if p.restore != nil {
		p.restore()
	}
	for _, mem := range p.memory {
		err = errors.Join(err, unix.Munmap(mem))
	}
	return err
}

// What follows implements the rest of platform.Platform: nothing ever changes.

var errFixed = errors.New("the memory port does not change")

func (p *port) ClosePort(int) ([]uint64, error)              { return nil, errFixed }
func (p *port) OpenPort(int) (*platform.HardwarePort, error) { return nil, errFixed }
func (p *port) Restore(int) (string, error)                  { return "", nil }
func (p *port) Steer(steer.Rules) error                      { return nil }
func (p *port) Source(netip.Addr) netip.Addr                 { return own.Addr() }
func (p *port) Resolve(netip.Addr)                           {}
func (p *port) SetNeighbours([]netip.Addr)                   {}
func (p *port) Steering(int) (platform.Steering, error)      { return platform.Steering{Queues: 1}, nil }
func (p *port) Outcomes(int) (c steer.Counters, err error)   { return c, nil }
func (p *port) Stats(int, int) (s platform.QueueStats)       { return s }
