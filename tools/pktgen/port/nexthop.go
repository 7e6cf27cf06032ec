package port

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/frame"
)

// ErrNoRoute means that the kernel has no route to a destination through this interface.
var ErrNoRoute = errors.New("no route")

// neighbourTimeout bounds the wait for a neighbour's answer.
const neighbourTimeout = 3 * time.Second

// discard is the L4 port (RFC 863) of the datagram that makes the kernel resolve a neighbour.
const discard = 9

// NextHop returns the MAC address that the kernel would send frames for a destination to through
// this interface, by route and neighbour. If the kernel does not know the neighbour, a datagram to
// the discard port makes it resolve it.
func (p *Port) NextHop(destination netip.Addr) (frame.MAC, error) {
	mac, err := p.nextHop(destination)
	if err != nil {
		err = fmt.Errorf("the MAC address for %s out of %s: %w; or give it with --dmac", destination, p.Name, err)
	}
	return mac, err
}

func (p *Port) nextHop(destination netip.Addr) (mac frame.MAC, err error) {
	// If the request named this interface, the kernel would make up an on-link route without a real
	// one.
	routes, err := p.netlink.RouteGet(destination.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != p.Index {
		return mac, ErrNoRoute
	}
	hop := destination
	if gateway, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		hop = gateway.Unmap()
	}
	asked := false
	for deadline := time.Now().Add(neighbourTimeout); ; time.Sleep(20 * time.Millisecond) {
		mac, found, err := p.neighbour(hop)
		if found || err != nil {
			return mac, err
		}
		if !asked {
			asked = true
			if err := p.ask(destination); err != nil {
				return mac, err
			}
		}
		if time.Now().After(deadline) {
			return mac, fmt.Errorf("%s doesn't answer", hop)
		}
	}
}

func (p *Port) neighbour(hop netip.Addr) (mac frame.MAC, found bool, err error) {
	list, err := p.netlink.NeighList(p.Index, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) { // one was added or removed meanwhile
		list, err = p.netlink.NeighList(p.Index, netlink.FAMILY_ALL)
	}
	if err != nil {
		return mac, false, fmt.Errorf("neighbours: %w", err)
	}
	const unusable = unix.NUD_INCOMPLETE | unix.NUD_FAILED | unix.NUD_NONE
	for _, n := range list {
		if n.IP.Equal(hop.AsSlice()) && n.State&unusable == 0 && len(n.HardwareAddr) == len(mac) {
			return frame.MAC(n.HardwareAddr), true, nil
		}
	}
	return mac, false, nil
}

func (p *Port) ask(destination netip.Addr) error {
	return affinity.Affinity{Netns: p.Affinity.Netns, CPU: affinity.AnyCPU}.Do(func() error {
		socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, discard)))
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write([]byte{0})
		return err
	})
}
