package route

import (
	"net/netip"

	"sluice/pipeline/nexthop"
)

// Snapshot is what the kernel's lists said at one moment. It is immutable: any goroutine may read
// and keep it.
type Snapshot struct {
	Table  *nexthop.Table
	Ports  []PortState  // in the order of Config.Ports
	Locals []netip.Addr // addresses of this machine on any interface, ascending
}

// PortState is one of our ports.
type PortState struct {
	Name     string
	Exists   bool           // an interface of this name exists; if not, only Name means anything
	Ifindex  int            // changes when the interface is deleted and made again
	MAC      [6]byte        // all zero if the interface has none of 6 bytes
	MTU      uint16         // bytes of IP packet
	Up       bool           // administratively up, and with carrier
	Prefixes []netip.Prefix // addresses of the port and of its VLANs with their prefix lengths; Masked gives the network
}

// OnLink reports whether addr lies in a network that one of the ports is connected to: whether
// frames can reach it without a router.
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
