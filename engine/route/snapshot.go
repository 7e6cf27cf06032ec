package route

import (
	"net/netip"
	"slices"

	"sluice/pipeline/nexthop"
)

// Snapshot is the state of the kernel's lists at one moment. It is immutable: any goroutine may
// read and retain it.
type Snapshot struct {
	Table  *nexthop.Table
	Ports  []PortState  // in the order of Config.Ports
	Locals []netip.Addr // addresses of this machine on any interface, ascending
	// Broadcasts: the broadcast addresses of their subnets, ascending
	Broadcasts []netip.Addr
	Hosts      []netip.Addr   // destinations with a host route, those of this machine included
	Ranges     []netip.Prefix // networks that are this machine's as a whole (AnyIP)
	// Unreachable: addresses of SetNeighbours that cannot be resolved: see resolutions
	Unreachable map[netip.Addr]Unreachable
	// Asked reports whether the kernel asks, or has asked, for a neighbour and has no answer. It
	// answers about the present, not about the moment of the snapshot.
	Asked func(nexthop.Hop) bool
}

// Owns reports whether the kernel does more with packets to addr than routing them like those to
// its neighbours: the address is this machine's, or has a host route.
func (s *Snapshot) Owns(addr netip.Addr) bool {
	_, local := slices.BinarySearchFunc(s.Locals, addr, netip.Addr.Compare)
	_, host := slices.BinarySearchFunc(s.Hosts, addr, netip.Addr.Compare)
	return local || host || slices.ContainsFunc(s.Ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// PortState is one of our ports.
type PortState struct {
	Name    string
	Exists  bool    // an interface of this name exists; if not, only Name is valid
	Ifindex int     // changes when the interface is deleted and made again
	MAC     [6]byte // all zero if the interface has no MAC address of 6 bytes
	MTU     uint16  // bytes of IP packet
	Up      bool    // administratively up, and with carrier
	// Prefixes are the addresses of the port and of its VLANs with their prefix lengths; Masked
	// returns the network.
	Prefixes []netip.Prefix
	// Stations are what frames to this host are addressed to at the port: its own MAC address
	// first, then those of its VLANs, of the bridge that it is in, and of macvlan interfaces on all
	// of them.
	Stations []Station
}

// Station is a MAC address of this host at a port.
type Station struct {
	MAC  [6]byte
	VLAN uint16 // identifier of the tag; 0: none
}

// OnLink reports whether addr is in a network that one of the ports is connected to, that is,
// whether frames can reach it without a router.
func (s *Snapshot) OnLink(addr netip.Addr) bool {
	for i := range s.Ports {
		for _, p := range s.Ports[i].Prefixes {
			if p.Contains(addr) {
				return true
			}
		}
	}
	return false
}
