package netlab

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Bridge joins interfaces of the host, such as those from Link, to a switch. It forwards at once
// (no spanning tree) and floods multicast, so that neighbour discovery needs no querier. The bridge
// itself is up and has no address.
func (h *Host) Bridge(name string, ports ...string) error {
	snooping := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := h.nl(func(nl *netlink.Handle) error {
		return nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	})
	if err != nil {
		return fmt.Errorf("netlab: %s: making bridge %s: %w", h.name, name, err)
	}
	// Up before it gets its ports: an operational port of a bridge that is up forwards from the
	// start.
	if err := h.LinkUp(name); err != nil {
		return err
	}
	for _, port := range ports {
		if err := h.bridgePort(name, port); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) bridgePort(bridge, port string) error {
	return h.onLink(port, "putting it into bridge "+bridge, func(nl *netlink.Handle, link netlink.Link) error {
		master, err := nl.LinkByName(bridge)
		if err != nil {
			return err
		}
		return nl.LinkSetMaster(link, master)
	})
}
