package doctor

import "fmt"

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
}

// Check is one check.
type Check struct {
	Name string
	Good string // text if nothing was found
	Look func(*Box) []Finding
	Of   subject
}

// subject is what a check needs; without it, the check is skipped.
type subject uint8

const (
	machine subject = iota
	file            // the configuration
	running         // the daemon
)

// Checks lists all checks, in the order in which an operator would ask: can it start, do packets
// arrive, do they leave, is it fast.
var Checks = []Check{
	{"config", "the configuration is valid", checkConfig, machine},
	{"daemon", "the daemon runs and answers", checkDaemon, machine},
	{"kernel", "the kernel has what Sluice needs", checkKernel, machine},
	{"capabilities", "all capabilities are present", checkCapabilities, machine},
	{"memlock", "the limit of locked memory is sufficient", checkMemlock, file},
	{"memory", "there is enough memory", checkMemory, file},
	{"ports", "all ports exist and are up", checkPorts, file},
	{"occupant", "no foreign XDP program is on a port", checkExistingProgram, file},
	{"mode", "all ports have the best AF_XDP mode", checkMode, file},
	{"vip", "packets to the services' addresses arrive here", checkVIP, file},
	{"routes", "all backends are reached through ports", checkRoutes, file},
	{"neighbours", "all next hops have answered", checkNeighbours, file},
	{"backends", "no backend is down", checkBackends, running},
	{"mtu", "tunnel packets fit the MTU", checkMTU, file},
	{"rp_filter", "no reply is dropped because of its source address", checkRPFilter, file},
	{"port_range", "fullnat and the kernel share no ports", checkPortRange, file},
	{"forwarding", "the kernel forwards nothing", checkForwarding, machine},
	{"offloads", "no offload interferes", checkOffloads, file},
	{"queues", "every worker has a queue of each port", checkQueues, file},
	{"irq", "interrupts go to their workers' CPUs", checkIRQ, file},
	{"numa", "workers are on the NUMA nodes of their ports", checkNUMA, file},
	{"rings", "the ports' rings are large enough", checkRings, file},
	{"hugepages", "frames are on huge pages", checkHugePages, file},
	{"cpu", "the workers' CPUs run at full speed, undisturbed", checkCPU, machine},
	{"drops", "no counter shows a problem", checkDrops, running},
}

// Run runs all checks. Each returns at least one finding.
func Run(b *Box) []Finding {
	var all []Finding
	for _, c := range Checks {
		var found []Finding
		switch {
		case c.Of == file && b.Config == nil:
			found = []Finding{{Severity: Note, Text: "not checked: no configuration"}}
		case c.Of == running && b.Stats == nil:
			found = []Finding{{Severity: Note, Text: "not checked: no daemon answers"}}
		default:
			found = c.Look(b)
		}
		if len(found) == 0 {
			found = []Finding{{Severity: OK, Text: c.Good}}
		}
		for _, f := range found {
			f.Check = c.Name
			all = append(all, f)
		}
	}
	return all
}

// found returns a finding.
func found(severity Severity, fix, format string, args ...any) Finding {
	return Finding{Severity: severity, Text: fmt.Sprintf(format, args...), Fix: fix}
}
