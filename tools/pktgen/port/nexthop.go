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

// ErrNoRoute is that the kernel has no route to a destination out of this interface.
var ErrNoRoute = errors.New("no route")

// neighbourPatience is how long a neighbour may take to answer.
const neighbourPatience = 3 * time.Second

// discard is the port (RFC 863) of the datagram that makes the kernel ask for a neighbour.
const discard = 9

// NextHop finds the MAC address to which frames for a destination go out of this interface, as the
// kernel would: by route and neighbour. If nobody has asked for the neighbour lately, it makes the
// kernel ask, by a datagram to the discard port.
func (p *Port) NextHop(destination netip.Addr) (frame.MAC, error) {
	mac, err := p.nextHop(destination)
	if err != nil {
		err = fmt.Errorf("the MAC address for %s out of %s: %w; or give it with --dmac", destination, p.Name, err)
	}
	return mac, err
}

func (p *Port) nextHop(destination netip.Addr) (mac frame.MAC, err error) {
	// Asked for this interface only, the kernel would invent an on-link route if there is none.
	routes, err := p.netlink.RouteGet(destination.AsSlice())
	if err != nil || len(routes) == 0 || routes[0].LinkIndex != p.Index {
		return mac, ErrNoRoute
	}
	hop := destination
	if gateway, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		hop = gateway.Unmap()
	}
	asked := false
	for deadline := time.Now().Add(neighbourPatience); ; time.Sleep(20 * time.Millisecond) {
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
	for errors.Is(err, netlink.ErrDumpInterrupted) { // one came or went meanwhile
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
	return affinity.Affinity{Netns: p.Place.Netns, CPU: affinity.AnyCPU}.Do(func() error {
		socket, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, discard)))
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write([]byte{0})
		return err
	})
}
