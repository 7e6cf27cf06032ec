package doctor

import (
	"errors"
	"fmt"

	"sluice/engine/api"
)

// checkDaemon reports that no daemon answers: many facts come from the daemon. It also reports the
// alarms that concern no single service.
func checkDaemon(b *Box) (all []Finding) {
	if hangs := (*api.NotAnswering)(nil); errors.As(b.DaemonErr, &hangs) {
		return []Finding{found(Problem, "let it go on, or restart it; until then its counters and modes are not checked", "%v", hangs)}
	}
	if b.Elsewhere == InContainer {
		return []Finding{found(Warning, "run sluice doctor in the daemon's container",
			"the daemon runs in another PID namespace: whether its interfaces, routes and neighbours are those that are visible here is not known")}
	}
	if b.Elsewhere != 0 {
		return []Finding{found(Warning, fmt.Sprintf("nsenter -t %d -n sluice doctor", b.Elsewhere),
			"the daemon, process %d, runs in another network namespace: its interfaces, routes and neighbours are not visible here", b.Elsewhere)}
	}
	if b.Stats == nil {
		return []Finding{found(Note, "start it (`sluice run`), or name its socket with --socket; until then its counters and modes are not checked",
			"no daemon answers: %v", b.DaemonErr)}
	}
	for _, a := range b.Alarms {
		if a.Service == "" {
			all = append(all, found(Warning, "see `sluice status`; the alarm ends with its reason", "alarm %s: %s", a.Kind, a.Text))
		}
	}
	return all
}
