package doctor

import (
	"errors"
	"fmt"

	"sluice/engine/steer"
)

// checkExistingProgram reports XDP programs on ports that the daemon does not replace: an interface
// can have only one.
func checkExistingProgram(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		var foreign *steer.ForeignError
		var busy *steer.BusyError
		switch {
		case errors.As(l.ExistingProgram, &foreign):
			fix := fmt.Sprintf("ip link set dev %s %s off", l.Name, foreign.Option)
			if foreign.Link != 0 {
				fix = fmt.Sprintf("bpftool link detach id %d", foreign.Link)
			}
			who := ""
			if foreign.PID != 0 {
				who = fmt.Sprintf(" of process %d", foreign.PID)
			}
			all = append(all, found(Problem, here("or take the port out of the configuration", fix),
				"port %s carries the XDP program %q%s, which Sluice does not replace", l.Name, foreign.Program, who))
		case errors.As(l.ExistingProgram, &busy) && b.Stats == nil:
			all = append(all, found(Problem, "name its socket with --socket, or stop it",
				"port %s is in use by the Sluice with process number %d, which does not answer on this socket", l.Name, busy.PID))
		case l.Dropping:
			all = append(all, found(Problem, here("or start the daemon", "sluice release"),
				"port %s drops packets for services and no daemon runs: [engine] on_stop = \"drop\"", l.Name))
		}
	}
	return all
}
