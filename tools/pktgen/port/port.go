// Package port has what the generator needs of a network interface: its number, addresses,
// counters, and the MAC address of the next hop to a destination.
package port

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/xsk"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/frame"
)

// Port is one interface. Its methods may be called by any goroutine.
type Port struct {
	Affinity affinity.Affinity
	Name     string
	Index    int
	MAC      frame.MAC
	Kind     string // "veth", "device", ...
	MTU      int
	RXs      int // queues in use
	TXs      int

	netlink *netlink.Handle
}

// Open opens an interface. Close releases it.
func Open(where affinity.Affinity, name string) (*Port, error) {
	p := &Port{Affinity: where, Name: name}
	// The socket belongs to the namespace in which it is opened.
	err := affinity.Affinity{Netns: where.Netns, CPU: affinity.AnyCPU}.Do(p.open)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("interface %s in %s: %w", name, where, err)
	}
	return p, nil
}

func (p *Port) open() (err error) {
	if p.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	link, err := p.netlink.LinkByName(p.Name)
	if err != nil {
		return err
	}
	a := link.Attrs()
	p.Index, p.Kind, p.MTU = a.Index, link.Type(), a.MTU
	copy(p.MAC[:], a.HardwareAddr)
	p.RXs, p.TXs, err = xsk.Queues(p.Name)
	return err
}

// Close closes the socket.
func (p *Port) Close() {
	if p.netlink != nil {
		p.netlink.Close()
	}
}

// Statistics has the interface's own counters since it was created.
type Statistics struct {
	TxFrames  uint64
	TxDropped uint64 // frames not sent: on veth, those that did not fit in the peer's ring
}

// Statistics reads the counters.
func (p *Port) Statistics() (Statistics, error) {
	link, err := p.netlink.LinkByIndex(p.Index)
	if err != nil {
		return Statistics{}, fmt.Errorf("interface %s: %w", p.Name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Statistics{}, fmt.Errorf("interface %s has no counters", p.Name)
	}
	return Statistics{TxFrames: s.TxPackets, TxDropped: s.TxDropped}, nil
}

// CheckUp returns an error if the interface is gone or down. A sender might not notice otherwise.
func (p *Port) CheckUp() error {
	link, err := p.netlink.LinkByIndex(p.Index)
	if err != nil {
		return fmt.Errorf("interface %s: %w", p.Name, err)
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("interface %s is down: ip link set %s up", p.Name, p.Name)
	}
	return nil
}

// ParseMAC reads a MAC address of six bytes.
func ParseMAC(text string) (mac frame.MAC, err error) {
	b, err := net.ParseMAC(text)
	if err != nil || len(b) != len(mac) {
		return mac, fmt.Errorf("%q is not a MAC address such as 02:00:00:00:00:01", text)
	}
	return frame.MAC(b), nil
}
