package doctor

import "fmt"

// checkOffloads reports offloads that change packets before the XDP program gets them.
func checkOffloads(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		on := func(name string) bool { return l.Features[name] }
		if on("rx-lro") {
			all = append(all, found(Problem, fmt.Sprintf("ethtool -K %s lro off", l.Name),
				"port %s merges packets into large ones (LRO), which drivers refuse together with XDP", l.Name))
		}
		if on("rx-gro-hw") {
			all = append(all, found(Warning, fmt.Sprintf("ethtool -K %s rx-gro-hw off", l.Name),
				"port %s merges packets in hardware (rx-gro-hw): merged ones fit no frame and no MTU", l.Name))
		}
		// the daemon turns it off when it starts
		if on("rx-vlan-hw-parse") && b.hasVLANs(l) && b.Stats != nil {
			all = append(all, found(Problem, fmt.Sprintf("ethtool -K %s rxvlan off", l.Name),
				"port %s has VLANs and removes their tags before Sluice gets the packets (rx-vlan-hw-parse): packets seem to come from no VLAN", l.Name))
		}
		if l.Kind == "veth" {
			all = append(all, found(Note, "ethtool -K IF tx off tso off gso off gro off (on the other ends, and on clients and backends behind them)",
				"port %s is a veth: senders on this machine leave checksums and segmentation to hardware that it doesn't have", l.Name))
		}
	}
	return all
}

func (b *Box) hasVLANs(l *Link) bool {
	for _, other := range b.Links {
		if other.Kind == "vlan" && other.Parent == l.Index {
			return true
		}
	}
	return false
}
