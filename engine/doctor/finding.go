package doctor

import (
	"fmt"
	"net/netip"
)

// Severity is how much a finding matters.
type Severity string

// The severities, from harmless to harmful.
const (
	OK      Severity = "ok"      // the check found nothing wrong
	Note    Severity = "note"    // worth knowing
	Warning Severity = "warning" // costs speed, or breaks something in some cases
	Problem Severity = "problem" // packets are lost, or the daemon would not start
)

// Finding is one sentence about the machine, and the fix.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Fix      string   `json:"fix,omitempty"`

	backends []netip.Addr // that a problem makes unreachable
}

// of returns the finding with the backends that it makes unreachable.
func (f Finding) of(backends ...netip.Addr) Finding {
	f.backends = backends
	return f
}

// Check is one check.
type Check struct {
	Name string
	Good string // text if nothing was found
	Find func(*Box) []Finding
	Need need
}

// need is what a check needs; without it, the check is skipped.
type need uint8

const (
	needsNothing need = iota
	needsConfig
	needsDaemon
)

// Checks lists all checks, in the order in which an operator would ask: can it start, do packets
// arrive, do they leave, is it fast.
var Checks = []Check{
	{"config", "the configuration is valid", checkConfig, needsNothing},
	{"daemon", "the daemon runs and answers", checkDaemon, needsNothing},
	{"kernel", "the kernel has what Sluice needs", checkKernel, needsNothing},
	{"capabilities", "all capabilities are present", checkCapabilities, needsNothing},
	{"memlock", "the limit of locked memory is sufficient", checkMemlock, needsConfig},
	{"memory", "there is enough memory", checkMemory, needsConfig},
	{"ports", "all ports exist and are up", checkPorts, needsConfig},
	{"occupant", "no foreign XDP program is on a port", checkExistingProgram, needsConfig},
	{"mode", "all ports have the best AF_XDP mode", checkMode, needsConfig},
	{"vip", "packets to the services' addresses arrive here", checkVIP, needsConfig},
	{"routes", "all backends are reached through ports", checkRoutes, needsConfig},
	{"neighbours", "all next hops have answered", checkNeighbours, needsConfig},
	{"rules", "no rule of `ip rule` leads packets to backends elsewhere", checkRules, needsConfig},
	{"replies", "no reply of tun or dr that comes in here is lost", checkReplies, needsConfig},
	{"hanging", "no connection waits for a backend's SYN-ACK", checkHanging, needsDaemon},
	{"backends", "no backend is down", checkBackends, needsDaemon},
	{"mtu", "tunnel packets fit the MTU", checkMTU, needsConfig},
	{"rp_filter", "no reply is dropped because of its source address", checkRPFilter, needsConfig},
	{"port_range", "fullnat and the kernel share no ports", checkPortRange, needsConfig},
	{"forwarding", "the kernel forwards what it must, and nothing else", checkForwarding, needsConfig},
	{"offloads", "no offload interferes", checkOffloads, needsConfig},
	{"queues", "every worker has a queue of each port", checkQueues, needsConfig},
	{"irq", "interrupts go to their workers' CPUs", checkIRQ, needsConfig},
	{"numa", "workers are on the NUMA nodes of their ports", checkNUMA, needsConfig},
	{"rings", "the ports' rings are large enough", checkRings, needsConfig},
	{"hugepages", "frames are on huge pages", checkHugePages, needsConfig},
	{"cpu", "the workers' CPUs run at full speed, undisturbed", checkCPU, needsNothing},
	{"drops", "no counter shows a problem", checkDrops, needsDaemon},
}

// Run runs all checks. Each returns at least one finding.
func Run(b *Box) []Finding {
	var all []Finding
	b.told = make(map[netip.Addr]bool)
	if b.Elsewhere != 0 {
		b.Addresses = nil // they are those of this namespace
	}
	for _, c := range Checks {
		var found []Finding
		switch {
		case b.Elsewhere != 0 && c.Need == needsConfig:
			found = []Finding{{Severity: Note, Text: "not checked: the daemon runs in another network namespace"}}
		case c.Need == needsConfig && b.Config == nil:
			found = []Finding{{Severity: Note, Text: "not checked: no configuration"}}
		case c.Need == needsDaemon && b.Stats == nil:
			found = []Finding{{Severity: Note, Text: "not checked: no daemon answers"}}
		default:
			found = c.Find(b)
		}
		if len(found) == 0 {
			found = []Finding{{Severity: OK, Text: c.Good}}
		}
		for _, f := range found {
			f.Check = c.Name
			all = append(all, f)
			for _, backend := range f.backends {
				b.told[backend] = b.told[backend] || f.Severity == Problem
			}
		}
	}
	return all
}

// found returns a finding.
func found(severity Severity, fix, format string, args ...any) Finding {
	return Finding{Severity: severity, Text: fmt.Sprintf(format, args...), Fix: fix}
}
