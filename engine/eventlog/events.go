package eventlog

import (
	"fmt"
	"strings"
)

// Kind is one kind of event: its id and when it is logged.
type Kind struct{ ID, About string }

// Events lists all ids.
var Events = []Kind{
	{"ready", "packets flow"},
	{"stopping", "a signal said so"},
	{"stopped", "everything was given back"},

	{"backend_up", "checks succeed again, or a drain was taken back"},
	{"backend_down", "checks fail: why says what"},
	{"backend_drain", "its weight is 0: no new connections"},
	{"backend_standby", "a sorry server has nothing to do any more"},
	{"backend_unreachable", "its address has no route or no neighbour yet"},
	{"alarm_raised", "kind and text say what an operator should look at"},
	{"alarm_ended", "that is over"},

	{"weight_set", "somebody gave a backend a weight"},
	{"override_set", "somebody drained, disabled or enabled a backend"},
	{"override_cleared", "the file decides about the backend again"},
	{"override_restored", "at a start: an override of the run before holds"},
	{"drain_deadline", "the time of a drain is over: its connections end"},

	{"config_reloaded", "the file was read again and runs"},
	{"config_refused", "a reload, apply or rollback failed: nothing changed"},
	{"config_changed", "an apply, confirm or rollback was done"},
	{"config_reverted", "nobody confirmed: the former configuration is back"},
	{"worker_stuck", "a worker does not turn: systemd is not told that we are alive"},
	{"tables_failed", "the workers go on with tables that are out of date"},

	{"port_open", "a port is attached, in the mode that af_xdp names"},
	{"port_gone", "an interface has disappeared"},
	{"port_back", "it is there again"},
	{"port_failed", "a port does not open again"},
	{"link_down", "a link went down"},
	{"link_up", "a link came up"},
	{"queue_failed", "the driver sends nothing on a queue"},

	{"state_failed", "the state directory can't be used"},
	{"state_back", "it can again"},
	{"http_failed", "nothing answers on [api] http"},
	{"http_open", "it answers after all"},
	{Suppressed, "count lines of the event or message in `of` were left out"},
}

// ordered says whether an event is what somebody asked for: that is never left out of the log.
func ordered(id string) bool {
	for _, prefix := range []string{"ready", "stop", "weight_", "override_", "config_"} {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// Suppressed is the id of the line that says how many others were left out.
const Suppressed = "suppressed"

// Reference lists Events in Markdown. README.md ends with its output.
func Reference() string {
	var b strings.Builder
	b.WriteString("| event | when |\n|---|---|\n")
	for _, e := range Events {
		fmt.Fprintf(&b, "| `%s` | %s |\n", e.ID, e.About)
	}
	return b.String()
}
