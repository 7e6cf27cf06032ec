package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/service"
)

// Host is what is known about the machine that a configuration is for. The caller asks the kernel,
// so that conf needs neither privileges nor netlink, and tests need no machine.
type Host struct {
	CPUs  []int               // CPUs that this process may use; nil: unknown
	Ports map[string]HostPort // every interface, by name

	// CheckToken returns what is wrong with a token file; fs.ErrNotExist in the error's chain is
	// only a warning. nil: no check.
	CheckToken func(path string) error
	// CheckPins returns why XDP programs cannot be pinned in a directory. nil: no check.
	CheckPins func(dir string) error
}

// HostPort is what is known about an interface.
type HostPort struct {
	Addresses []netip.Addr // of the interface
	// OnLink are the prefixes that are reached without a gateway: those of its addresses and its
	// link-scope routes.
	OnLink []netip.Prefix
	Queues int // RX queues; 0: unknown
}

// checkHost compares a configuration with the machine. places[i] is the place of cfg.Services[i]. A
// file may be checked on another machine than its own: what the machine lacks is a warning, what it
// has but cannot do is an error.
func (r *report) checkHost(cfg *Config, root table, places []*place, host *Host) {
	if cfg.Engine.OnStop == OnStopDrop && host.CheckPins != nil {
		if err := host.CheckPins(cfg.Engine.BPFDir); err != nil {
			r.fail(root.at.key("engine").key("on_stop"), "\"drop\" needs a holder of the XDP programs: %v, and name a directory in it as bpf_dir", err)
		}
	}
	cores := root.at.key("engine").key("cores")
	for i, core := range cfg.Engine.Cores {
		if host.CPUs != nil && !slices.Contains(host.CPUs, core) {
			r.warn(cores.item(i), "CPU %d is not available on this machine; available: %s", core, numbers(host.CPUs))
		}
	}
	absent := r.checkPorts(cfg.Ports, root.at.key("port"), host)
	own := map[netip.Addr]string{}
	for name, port := range host.Ports {
		for _, a := range port.Addresses {
			if have, ok := own[a]; !ok || name < have {
				own[a] = name
			}
		}
	}
	for i, s := range cfg.Services {
		for j, b := range s.Servers() {
			at := s.serverAt(places[i], j).key("address")
			switch name, ours := own[b.Key.Address]; {
			case !b.Key.Address.IsValid():
			// The file is for another machine, where this address may be another machine's.
			case ours && absent:
			case ours:
				r.fail(at, "%s is an address of this machine (%s); a backend must be another machine", b.Key.Address, name)
			case b.Mode == service.DR && !absent && !onLink(b.Key.Address, cfg.Ports, host):
				r.fail(at, "%s is not on-link on any port, so mode dr cannot reach it; allowed: an address in %s, or mode tun or nat",
					b.Key.Address, prefixes(cfg.Ports, host))
			}
		}
	}
}

// checkPorts checks the ports and reports whether one is absent. Then it is unknown what that port
// would reach, and what this machine's addresses mean.
func (r *report) checkPorts(ports []Port, at *place, host *Host) (absent bool) {
	if len(ports) == 0 {
		return true
	}
	for i, p := range ports {
		if p.Name == "" { // invalid, and already reported
			absent = true
			continue
		}
		facts, here := host.Ports[p.Name]
		if !here {
			absent = true
			r.warn(at.item(i).key("name"), "this machine has no interface %q; whether dr backends are on-link was not checked", p.Name)
			continue
		}
		queues := at.item(i).key("queues")
		for j, q := range p.Queues {
			if facts.Queues > 0 && q >= facts.Queues {
				r.fail(queues.item(j), "%q has no RX queue %d; allowed: 0 to %d", p.Name, q, facts.Queues-1)
			}
		}
	}
	return absent
}

func onLink(a netip.Addr, ports []Port, host *Host) bool {
	for _, p := range ports {
		if slices.ContainsFunc(host.Ports[p.Name].OnLink, func(net netip.Prefix) bool { return net.Contains(a) }) {
			return true
		}
	}
	return false
}

// prefixes lists the on-link prefixes of the ports, for a message. No backend has an address in
// fe80::/10.
func prefixes(ports []Port, host *Host) string {
	var all []string
	for _, p := range ports {
		for _, net := range host.Ports[p.Name].OnLink {
			if !net.Addr().IsLinkLocalUnicast() || net.Addr().Is4() {
				all = append(all, fmt.Sprintf("%s (%s)", net.Masked(), p.Name))
			}
		}
	}
	if all == nil {
		return "a prefix of a port, but no port has one"
	}
	return strings.Join(all, ", ")
}

func numbers(all []int) string {
	return strings.Trim(fmt.Sprint(all), "[]")
}
