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
	Of   subject
}

// subject is what a check looks at; without it, it isn't made.
type subject uint8

const (
	machine subject = iota
	file            // the configuration
	running         // the daemon
)

// Checks is all of them, in the order in which an operator would ask: can it start, do packets
// arrive, do they leave, is it fast.
var Checks = []Check{
	{"config", "the configuration is valid", checkConfig, machine},
	{"daemon", "the daemon runs and answers", checkDaemon, machine},
	{"kernel", "the kernel has what Sluice needs", checkKernel, machine},
	{"capabilities", "all capabilities are there", checkCapabilities, machine},
	{"memlock", "the limit of locked memory suffices", checkMemlock, file},
	{"memory", "there is memory enough", checkMemory, file},
	{"ports", "all ports exist and are up", checkPorts, file},
	{"occupant", "no foreign XDP program is on a port", checkExistingProgram, file},
	{"mode", "all ports have the best AF_XDP mode", checkMode, file},
	{"vip", "the services' addresses find their way here", checkVIP, file},
	{"routes", "all backends are reached by the ports", checkRoutes, file},
	{"neighbours", "all next hops have answered", checkNeighbours, file},
	{"backends", "no backend is down", checkBackends, running},
	{"mtu", "tunnels fit", checkMTU, file},
	{"rp_filter", "no answer is dropped for its source address", checkRPFilter, file},
	{"port_range", "fullnat and the kernel share no ports", checkPortRange, file},
	{"forwarding", "the kernel forwards nothing", checkForwarding, machine},
	{"offloads", "no offload is in the way", checkOffloads, file},
	{"queues", "every worker has a queue of each port", checkQueues, file},
	{"irq", "interrupts come to their workers' CPUs", checkIRQ, file},
	{"numa", "workers are on the NUMA nodes of their ports", checkNUMA, file},
	{"rings", "the ports' rings are large enough", checkRings, file},
	{"hugepages", "frames lie on huge pages", checkHugePages, file},
	{"cpu", "the workers' CPUs run at full speed, undisturbed", checkCPU, machine},
	{"drops", "no counter points to trouble", checkDrops, running},
}

// Run makes all checks. Each gives at least one finding.
func Run(b *Box) []Finding {
	var all []Finding
	for _, c := range Checks {
		var found []Finding
		switch {
		case c.Of == file && b.Config == nil:
			found = []Finding{{Severity: Note, Text: "not looked at: there is no configuration"}}
		case c.Of == running && b.Stats == nil:
			found = []Finding{{Severity: Note, Text: "not looked at: no daemon answers"}}
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

// found makes a finding.
func found(severity Severity, fix, format string, args ...any) Finding {
	return Finding{Severity: severity, Text: fmt.Sprintf(format, args...), Fix: fix}
}
