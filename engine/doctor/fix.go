package doctor

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice/pipeline/service"
)

// A fix begins with what has to be run, as root: on this machine, or after "on ADDRESS:" on that
// one. Commands are separated by semicolons, and can be run again without harm. What else there is
// to know follows in parentheses. A fix that is no command is a sentence.

// here returns a fix on this machine.
func here(note string, commands ...string) string {
	fix := strings.Join(commands, "; ")
	if note != "" {
		fix += " (" + note + ")"
	}
	return fix
}

// there returns a fix on another machine.
func there(host netip.Addr, note string, commands ...string) string {
	return "on " + host.String() + ": " + here(note, commands...)
}

// addRoute returns the command that leads packets to a destination.
func addRoute(to, way string) string {
	if strings.Contains(to+way, ":") {
		return "ip -6 route replace " + to + " " + way
	}
	return "ip route replace " + to + " " + way
}

// holdVIP returns the commands that give a tun or dr backend the service's address, without
// announcing it on the link.
func holdVIP(vip netip.Addr) (commands []string) {
	if vip.Is4() {
		commands = append(commands, "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")
	}
	return append(commands, fmt.Sprintf("ip addr replace %s dev lo", whole(vip)))
}

// needsOfPath returns what else a backend of tun or dr needs to answer what comes to the service's
// address.
func needsOfPath(mode service.Mode, vip netip.Addr) string {
	needs := fmt.Sprintf("a server must listen at %s", vip)
	if mode == service.TUN {
		needs += ", and a tunnel interface with rp_filter 0 decapsulate"
	}
	return needs
}

// wayBack returns the commands that lead a backend's packets to an address through this machine. ok
// reports whether this machine has an address on the backend's network.
func (b *Box) wayBack(backend netip.Addr, to string) (command string, ok bool) {
	own := b.ownTowards(backend)
	return addRoute(to, "via "+own), own != ""
}

// ownTowards returns this machine's address on the network of another one, or "".
func (b *Box) ownTowards(to netip.Addr) string {
	for _, a := range b.Addresses {
		if a.Prefix.Masked().Contains(to) && !a.Prefix.IsSingleIP() {
			return a.Prefix.Addr().String()
		}
	}
	return ""
}
