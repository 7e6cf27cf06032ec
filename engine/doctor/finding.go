package doctor

import "fmt"

// Severity says how much a finding matters.
type Severity string

// From harmless to harmful.
const (
	OK      Severity = "ok"      // the check found nothing wrong
	Note    Severity = "note"    // worth knowing
	Warning Severity = "warning" // costs speed, or breaks something for some
	Problem Severity = "problem" // packets are lost, or the daemon would not start
)

// Finding is one sentence about the box, and what to do.
type Finding struct {
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Fix      string   `json:"fix,omitempty"`
}

// Check looks at one thing.
type Check struct {
	Name string
	Good string // what is said when nothing was found
	Look func(*Box) []Finding
}

// Checks is all of them, in the order in which an operator would ask: can it start, do packets arrive, do they leave,
// is it fast.
var Checks = []Check{
	{"config", "the configuration is valid", checkConfig},
	{"daemon", "the daemon runs and answers", checkDaemon},
	{"kernel", "the kernel has what Sluice needs", checkKernel},
	{"capabilities", "all capabilities are there", checkCapabilities},
	{"memlock", "the limit of locked memory suffices", checkMemlock},
	{"ports", "all ports exist and are up", checkPorts},
	{"occupant", "no foreign XDP program is on a port", checkOccupant},
	{"mode", "all ports have the best AF_XDP mode", checkMode},
	{"vip", "the services' addresses find their way here", checkVIP},
	{"routes", "all backends are reached by the ports", checkRoutes},
	{"neighbours", "all next hops have answered", checkNeighbours},
	{"backends", "no backend is down", checkBackends},
	{"mtu", "tunnels fit", checkMTU},
	{"rp_filter", "no answer is dropped for its source address", checkRPFilter},
	{"port_range", "fullnat and the kernel share no ports", checkPortRange},
	{"forwarding", "the kernel forwards nothing", checkForwarding},
	{"offloads", "no offload is in the way", checkOffloads},
	{"queues", "every worker has a queue of each port", checkQueues},
	{"irq", "interrupts come to their workers' CPUs", checkIRQ},
	{"numa", "workers are on the NUMA nodes of their ports", checkNUMA},
	{"rings", "the ports' rings are large enough", checkRings},
	{"hugepages", "frames lie on huge pages", checkHugePages},
	{"cpu", "the workers' CPUs run at full speed, undisturbed", checkCPU},
	{"drops", "no counter points to trouble", checkDrops},
}

// Run makes all checks. Each gives at least one finding.
func Run(b *Box) []Finding {
	var all []Finding
	for _, c := range Checks {
		found := c.Look(b)
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

// found makes a finding.
func found(severity Severity, fix, format string, args ...any) Finding {
	return Finding{Severity: severity, Text: fmt.Sprintf(format, args...), Fix: fix}
}
