package eventlog

import "strings"

// Kind is one kind of event: its ID and when it is logged.
type Kind struct{ ID, About string }

// Events lists all event IDs.
var Events = []Kind{
	{"ready", "packets flow"},
	{"stopping", "a signal asked the daemon to stop"},
	{"stopped", "all interfaces and memory are released"},

	{"backend_up", "checks succeed again, or a drain was undone"},
	{"backend_down", "checks fail, or no packet can be sent to it; why has the reason, protected whether it is in use"},
	{"backend_drain", "its weight is 0: no new connections"},
	{"backend_standby", "a sorry server no longer takes new connections"},
	{"backend_unreachable", "its address has no route or no neighbour yet"},
	{"alarm_raised", "an alarm started; kind and text say what to look at"},
	{"alarm_ended", "the alarm is over"},

	{"weight_set", "a weight was set at run time"},
	{"override_set", "a backend was drained, disabled or enabled at run time"},
	{"override_cleared", "an override was removed: the file applies again"},
	{"override_restored", "at start: an override from the previous run applies"},
	{"drain_deadline", "the time limit of a drain has passed: its connections end"},

	{"access_set", "a prefix was denied or allowed at run time"},
	{"access_cleared", "what was set for a prefix was removed: the lists of the file apply again"},
	{"access_over", "the time for which a prefix was denied or allowed is over"},
	{"access_reloaded", "the files of prefixes were read again and are active"},
	{"access_refused", "a file of prefixes has errors: nothing changed"},

	{"config_reloaded", "the file was read again and is active"},
	{"config_refused", "a reload, apply or rollback failed: nothing changed"},
	{"config_changed", "an apply, confirm or rollback succeeded"},
	{"config_reverted", "a change was not confirmed in time: the previous configuration is active"},
	{"worker_stuck", "a worker has not answered for two seconds: packets of its queues are lost"},
	{"worker_back", "it answers again"},
	{"stuck_end", "a worker has not run for [engine] stuck_after: the process ends with status 3, and what is named starts it again"},
	{"tables_failed", "new tables could not be built: the workers keep the old ones"},

	{"port_range", "SNAT ports follow another net.ipv4.ip_local_port_range"},
	{"port_open", "a port is attached, in the mode that af_xdp names"},
	{"port_gone", "an interface has disappeared"},
	{"port_back", "the interface is back"},
	{"port_failed", "a port could not be opened again"},
	{"xdp_detached", "another process has detached the XDP program from a port, or replaced it; err says why it is not attached again"},
	{"to_kernel_failed", "the device for what nat backends send of their own accord cannot be made, or is gone; err says why"},
	{"link_down", "a link went down"},
	{"link_up", "a link came up"},
	{"queue_failed", "the driver transmits nothing on a queue"},
	{"port_memory", "a worker gets no memory for SNAT ports: new connections of fullnat may find none"},

	{"keep_restart", "`sluice keep`: the daemon has ended and is started again after a pause"},
	{"keep_kill", "`sluice keep`: the daemon gives no sign of life, or does not stop, and is killed"},
	{"keep_gave_up", "`sluice keep`: the daemon has ended after each of the last starts"},
	{"keep_upgrade", "`sluice keep`: a new process takes the place of the daemon"},
	{"keep_former", "`sluice keep`: the new executable ended twice within 30 s of the upgrade: the former one is started again"},
	{"upgrade", "`sluice upgrade`: the new process prepares"},
	{"upgraded", "`sluice upgrade`: the new process has taken the place of the former one; both log it"},
	{"upgrade_failed", "`sluice upgrade`: the new process cannot run, and the daemon goes on; error says why"},
	{"takeover", "at start: connections of a daemon that was killed, restarted or upgraded go on"},
	{"socket_left", "at start: a socket of such a daemon is closed, because no port has its queue any more"},
	{"takeover_sockets", "at start: the sockets of such a daemon go on, with the packets that have waited on them"},
	{"takeover_failed", "connections or sockets do not go on; error says why"},
	{"keep_failed", "connections or sockets will not outlive this process; error says why"},

	{"state_failed", "the state directory cannot be written"},
	{"state_back", "the state directory can be written again"},
	{"http_failed", "the address of [api] http cannot be used"},
	{"http_open", "[api] http is served again"},
	{Suppressed, "`count` lines of the event or message in `of` were suppressed"},
	{Dropped, "`count` lines before this one were dropped: the log could not be written, or not fast enough"},
}

// requested reports whether an event answers a request of an operator. Such events are never
// suppressed.
func requested(id string) bool {
	for _, prefix := range []string{"ready", "stop", "weight_", "override_", "access_", "config_"} {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// IDs of the lines that report how many other lines were not written.
const (
	Suppressed = "suppressed"  // by the limit
	Dropped    = "log_dropped" // because the log could not be written
)
