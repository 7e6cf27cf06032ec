package metrics

import "github.com/prometheus/client_golang/prometheus"

// Family is one metric with all its series.
type Family struct {
	Name, Help string
	Type       string   // counter, gauge or histogram
	Labels     []string // the set of values of each is bounded

	desc *prometheus.Desc
	kind prometheus.ValueType
}

// Families lists Sluice's own metrics. /metrics also has those of the Go runtime (go_) and of the
// process (process_).
var Families []*Family

func family(kind string, value prometheus.ValueType, name, help string, labels []string) *Family {
	name = "sluice_" + name
	f := &Family{Name: name, Help: help, Type: kind, Labels: labels, kind: value, desc: prometheus.NewDesc(name, help, labels, nil)}
	Families = append(Families, f)
	return f
}

func counter(name, help string, labels ...string) *Family {
	return family("counter", prometheus.CounterValue, name, help, labels)
}

func gauge(name, help string, labels ...string) *Family {
	return family("gauge", prometheus.GaugeValue, name, help, labels)
}

// The whole daemon.
var (
	buildInfo = gauge("build_info", "Always 1; the labels identify the running build.", "version", "goversion")
	startTime = gauge("start_time_seconds", "When the daemon started, in Unix time.")

	received    = counter("packets_received_total", "Packets received from RX rings: the sum of those forwarded, replied, given to the kernel, dropped and lost in a crash, and of fragments that wait.")
	forwarded   = counter("packets_forwarded_total", "Packets sent on, in either direction.")
	replied     = counter("packets_replied_total", "Packets answered by Sluice itself, with a reset or an ICMP message.")
	lostInCrash = counter("packets_lost_in_crash_total", "Packets that a daemon had received and not sent on when it was killed, and those that waited too long for the next one.")
	toKernel    = counter("packets_to_kernel_total", "Packets that nat backends sent of their own accord, given to the kernel.")
	waiting     = gauge("fragments_waiting", "Fragments that wait for the first fragment of their packet.")
	kernelLost  = counter("packets_to_kernel_failed_total", "Packets given to the kernel that it did not take; they are also counted as given.")
	portReused  = counter("port_reused_early_total", "Connections of mode fullnat from a port that another to the same backend had less than a minute before.")
	originated  = counter("packets_originated_total", "Packets that Sluice sent on its own: RST probes, to silent ends of connections that must be reset, and to ask whether a RST was genuine; SYNs of fullnat that a backend refused because it had another connection from the port, sent again.")
	untracked   = counter("untracked_total", "Packets that were forwarded by a hash without a connection.")
	adopted     = counter("adopted_total", "Connections that were opened by a segment in the middle of them.")
	displaced   = counter("displaced_total", "Connections without the other side, or that had ended, removed before their timeouts because the table filled.")
	idleReset   = counter("idle_reset_total", "Connections that were reset at both ends because they were idle beyond their timeout.")
	drops       = counter("drops_total", "Packets dropped, each counted under exactly one reason; `sluice stats --all` explains the reasons.", "reason")
	connections = gauge("connections", "Connections in the table.", "family")
	capacity    = gauge("connections_capacity", "Capacity of the connection tables, all workers and both families together.")
	frames      = gauge("frames", "Frames of packet memory, by owner.", "owner")
	published   = counter("tables_published_total", "Sets of tables published to the workers.")

	events     = counter("events_total", "Logged changes of state, by event.", "event")
	suppressed = counter("log_suppressed_total", "Log lines suppressed by the log's limit.")
	logDropped = counter("log_dropped_total", "Log lines dropped because the log could not be written, or not fast enough.")
)

// The configuration.
var (
	reloadOK    = gauge("config_last_reload_successful", "Whether the last attempt to load a configuration succeeded.")
	reloadTime  = gauge("config_last_reload_timestamp_seconds", "When the last attempt to load a configuration was made, in Unix time.")
	generation  = gauge("config_generation", "Number of the active configuration; it grows with each change.")
	fileDiffers = gauge("config_file_differs", "Whether the file differs from the active configuration.")
	pending     = gauge("config_confirm_pending", "Whether the active configuration will be reverted unless it is confirmed.")
	overrides   = gauge("overrides", "Backends drained, disabled or weighted at run time.", "state")
	stateKept   = gauge("state_kept", "Whether overrides and earlier configurations are stored on disk, as configured.")
	alarms      = gauge("alarms", "Active alarms.", "kind")
)

// Services.
var (
	serviceInfo        = gauge("service_info", "Always 1; the labels describe the service.", "service", "address", "port", "protocol", "mode", "scheduler")
	serviceOpened      = counter("service_connections_total", "Connections opened.", "service")
	servicePackets     = counter("service_packets_total", "Packets from clients (in) and to clients (out); always 0 out for tun and dr.", "service", "direction")
	serviceBytes       = counter("service_bytes_total", "Bytes of IP packets from clients (in) and to clients (out).", "service", "direction")
	serviceDenied      = counter("service_access_denied_total", "Packets dropped because a list denies their client new connections.", "service")
	serviceLimited     = counter("service_limited_total", "New connections beyond a limit, dropped or sent to the sorry server; limit: the key that sets it.", "service", "limit")
	serviceFirst       = counter("service_first_packets_total", "First packets of clients that a hash forwarded without a connection, which the second one opens.", "service")
	serviceFull        = counter("service_found_full_total", "New connections that found the service's part of the connection table used up, the table full, or no SNAT port.", "service")
	serviceRefused     = counter("service_table_full_total", "Of service_found_full_total, those that were dropped; the rest took the place of other connections, or went untracked.", "service")
	serviceUntracked   = counter("service_untracked_total", "Of service_found_full_total, those that a hash forwarded without a connection.", "service")
	serviceDisplaced   = counter("service_displaced_total", "Connections without the other side, or that had ended, removed before their timeouts.", "service")
	serviceUnproven    = gauge("service_unproven_connections", "Connections in which the other side has not taken part.", "service")
	serviceConnections = gauge("service_connections", "Connections in the table; active: TCP connections that are established or being established.", "service", "state")
	serviceBackends    = gauge("service_backends", "Backends by state: up, down and drain are all.", "service", "state")
	serviceProtected   = gauge("service_backends_protected", "Backends that are down and take new connections, because too few would remain.", "service")
	serviceAlarm       = gauge("service_alarm", "1 while the alarm is active.", "service", "kind")
)

// Backends: only with [api] metrics = "backends".
var (
	backendUp          = gauge("backend_up", "Whether the backend is up: its health checks succeed, and it has a route and a neighbour.", "service", "backend")
	backendProtected   = gauge("backend_protected", "Whether the backend takes new connections although its checks fail, because too few would remain.", "service", "backend")
	backendChanged     = gauge("backend_state_timestamp_seconds", "When the backend entered its present state, in Unix time.", "service", "backend")
	backendWeight      = gauge("backend_weight", "Effective weight of the backend; 0 drains.", "service", "backend")
	backendConnections = gauge("backend_connections", "Connections in the table, as for a service.", "service", "backend", "state")
	backendOpened      = counter("backend_connections_total", "Connections opened.", "service", "backend")
	backendPackets     = counter("backend_packets_total", "Packets, as for a service.", "service", "backend", "direction")
	backendBytes       = counter("backend_bytes_total", "Bytes of IP packets, as for a service.", "service", "backend", "direction")
)

// Workers, ports and queues.
var (
	workerStuck       = gauge("worker_stuck", "Whether the worker does not answer: its counters are then those of its last answer.", "worker", "cpu")
	workerReceived    = counter("worker_packets_received_total", "Packets received from RX rings.", "worker", "cpu")
	workerForwarded   = counter("worker_packets_forwarded_total", "Packets sent on.", "worker", "cpu")
	workerDropped     = counter("worker_packets_dropped_total", "Packets dropped, for all reasons.", "worker", "cpu")
	workerHanded      = counter("worker_hand_overs_total", "Frames handed over to the owner of their flow (out), or received as the owner (in).", "worker", "cpu", "direction")
	workerTurns       = counter("worker_turns_total", "Iterations of the worker's loop.", "worker", "cpu")
	workerBusySeconds = counter("worker_busy_seconds_total", "Time spent on frames.", "worker", "cpu")
	workerBusy        = gauge("worker_busy_ratio", "Portion of the time since the previous scrape, or the start, spent on frames.", "worker", "cpu")
	workerConnections = gauge("worker_connections", "Connections that the worker owns.", "worker", "cpu")
	workerFrames      = gauge("worker_frames_free", "Free frames of the worker.", "worker", "cpu")
	workerGap         = family("histogram", 0, "worker_turn_gap_seconds",
		"Time from the start of one loop iteration to the next, without sleep: the longest time that a packet waits.", []string{"worker", "cpu"})

	portInfo = gauge("port_info", "Always 1; io is the AF_XDP mode that the port uses.", "port", "io")
	portUp   = gauge("port_up", "Whether the link is up.", "port")
	portMTU  = gauge("port_mtu_bytes", "Its MTU.", "port")
	portXDP  = counter("port_frames_total", "Frames received, by what the XDP program did: passed (to the kernel), redirected (to a worker), "+
		"detoured (to the prober), no_socket and no_worker (dropped: the queue is not used, or its worker does not run).", "port", "outcome")

	queueReceived = counter("queue_packets_received_total", "Packets received from the queue's RX ring.", "port", "queue")
	queueSent     = counter("queue_packets_sent_total", "Packets put on the queue's TX ring.", "port", "queue")
	queueFull     = counter("queue_tx_full_total", "Packets dropped because the TX ring was full.", "port", "queue")
	queueWakeups  = counter("queue_wakeups_total", "System calls made for the queue.", "port", "queue")
	queueKernel   = counter("queue_kernel_events_total", "The kernel's counters of the socket (XDP_STATISTICS); rx_ring_full and "+
		"fill_ring_empty are packets lost before Sluice received them.", "port", "queue", "event")
)
