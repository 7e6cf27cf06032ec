package doctor

import (
	"slices"

	"sluice/engine/api"
)

// zeroCopyDrivers are the drivers that implement AF_XDP zero-copy in current kernels
// (ndo_xsk_wakeup in drivers/net).
var zeroCopyDrivers = []string{"bnxt_en", "ena", "fec", "i40e", "iavf", "ice", "idpf", "igb", "igc", "ixgbe", "ixgbevf", "mlx5_core", "nfp", "st_gmac", "stmmac", "tsnep", "virtio_net"}

// checkMode reports the AF_XDP mode of each port, or the one that its driver allows.
func checkMode(b *Box) (all []Finding) {
	if b.Stats == nil {
		for _, l := range b.ports() {
			if l.Driver != "" && !slices.Contains(zeroCopyDrivers, l.Driver) {
				all = append(all, found(Note, "nothing needs to be done; a card with a zero-copy driver is several times faster",
					"port %s has the driver %s, which is not known for AF_XDP zero-copy: packets will be copied", l.Name, l.Driver))
			}
		}
		return all
	}
	for _, p := range b.Stats.Ports {
		driver := ""
		if l := b.Links[p.Name]; l != nil {
			driver = l.Driver
		}
		switch {
		case p.IO == api.IOGeneric:
			all = append(all, found(Warning, "load a driver with XDP, or see in the daemon's log why it was refused (MTU, LRO and queues are the usual causes)",
				"port %s runs in generic mode, the slowest: the kernel builds a buffer for each packet first", p.Name))
		case p.IO == api.IOCopy && slices.Contains(zeroCopyDrivers, driver):
			all = append(all, found(Warning, "see in the daemon's log why zero-copy was refused, at level DEBUG; io = \"zerocopy\" for the port makes it an error",
				"port %s copies packets although its driver, %s, is known for zero-copy", p.Name, driver))
		case p.IO == api.IOCopy:
			all = append(all, found(Note, "nothing needs to be done; a card with a zero-copy driver is faster",
				"port %s runs in copy mode: its driver, %s, runs the program and the kernel copies packets", p.Name, or(driver, "unknown")))
		}
	}
	return all
}
