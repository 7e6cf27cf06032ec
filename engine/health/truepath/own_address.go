package truepath

import (
	"net/netip"
	"slices"
)

// OwnAddress returns the address that a backend answers to: one of the port that leads to it, of
// the service's family, if possible in the backend's network. It is no service's address, because
// the backend has those itself.
func OwnAddress(prefixes []netip.Prefix, locals []netip.Addr, is4 bool, backend netip.Addr, vips map[netip.Addr]bool) (own netip.Addr) {
	fits := func(a netip.Addr) bool {
		return a.Is4() == is4 && !vips[a] && a.IsGlobalUnicast() && a.Zone() == ""
	}
	for _, p := range prefixes {
		if fits(p.Addr()) && (!own.IsValid() || p.Contains(backend)) {
			own = p.Addr()
		}
	}
	if own.IsValid() {
		return own
	}
	// An address of another port: answers reach it if the routes lead there.
	if i := slices.IndexFunc(locals, fits); i >= 0 {
		return locals[i]
	}
	return netip.Addr{}
}
