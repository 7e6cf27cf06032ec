package metrics

import "github.com/prometheus/client_golang/prometheus"

// Family is one metric with all its series.
type Family struct {
	Name, Help string
	Type       string   // counter, gauge or histogram
	Labels     []string // each has a bounded set of values

	desc *prometheus.Desc
	kind prometheus.ValueType
}

// Families is every metric of ours. /metrics has those of the Go runtime (go_) and the process
// (process_) besides.
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
	buildInfo = gauge("build_info", "1; the labels say which build runs.", "version", "goversion")
	startTime = gauge("start_time_seconds", "When the daemon started, in Unix time.")

	received    = counter("packets_received_total", "Packets taken from RX rings: the sum of those forwarded, replied to and dropped.")
	forwarded   = counter("packets_forwarded_total", "Packets sent on, in either direction.")
	replied     = counter("packets_replied_total", "Packets answered by Sluice itself, with a reset or an ICMP message.")
	originated  = counter("packets_originated_total", "Packets sent without being asked, to end connections of evicted backends.")
	drops       = counter("drops_total", "Packets dropped, by the one reason that each has; `sluice stats --all` explains them.", "reason")
	connections = gauge("connections", "Connections in the table.", "family")
	capacity    = gauge("connections_capacity", "Connections that the table has room for.")
	frames      = gauge("frames", "Frames of packet memory, by who has them.", "owner")
	published   = counter("tables_published_total", "Sets of tables given to the workers.")

	events     = counter("events_total", "Changes of state as the log has them, by id.", "event")
	suppressed = counter("log_suppressed_total", "Lines that the limit of the log kept out of it.")
)

// The configuration.
var (
	reloadOK    = gauge("config_last_reload_successful", "Whether the last attempt to load a configuration succeeded.")
	reloadTime  = gauge("config_last_reload_timestamp_seconds", "When that was, in Unix time.")
	generation  = gauge("config_generation", "Number of the configuration that runs; it grows with each.")
	fileDiffers = gauge("config_file_differs", "Whether the file has other text than the configuration that runs.")
	pending     = gauge("config_confirm_pending", "Whether the running configuration goes away unless it is confirmed.")
	overrides   = gauge("overrides", "Backends drained, disabled or weighted at run time.", "state")
	stateKept   = gauge("state_kept", "Whether overrides and former configurations outlive a restart as configured.")
	alarms      = gauge("alarms", "Alarms that are raised now.", "kind")
)

// Services.
var (
	serviceInfo        = gauge("service_info", "1; the labels say what the service is.", "service", "address", "port", "protocol", "mode", "scheduler")
	serviceOpened      = counter("service_connections_total", "Connections opened.", "service")
	servicePackets     = counter("service_packets_total", "Packets, in from clients and out to them; tun and dr see none out.", "service", "direction")
	serviceBytes       = counter("service_bytes_total", "Bytes of IP packets, likewise.", "service", "direction")
	serviceConnections = gauge("service_connections", "Connections in the table: active are TCP established or being set up.", "service", "state")
	serviceBackends    = gauge("service_backends", "Backends by state.", "service", "state")
	serviceAlarm       = gauge("service_alarm", "1 while the alarm is raised.", "service", "kind")
)

// Backends: only with [api] metrics = "backends".
var (
	backendUp          = gauge("backend_up", "Whether health checks let it take new connections.", "service", "backend")
	backendProtected   = gauge("backend_protected", "Whether it is used although its checks fail, because too few would be left.", "service", "backend")
	backendChanged     = gauge("backend_state_timestamp_seconds", "Since when it is in its state, in Unix time.", "service", "backend")
	backendWeight      = gauge("backend_weight", "Its weight now; 0 drains.", "service", "backend")
	backendConnections = gauge("backend_connections", "Connections in the table, as for a service.", "service", "backend", "state")
	backendOpened      = counter("backend_connections_total", "Connections opened.", "service", "backend")
	backendPackets     = counter("backend_packets_total", "Packets, as for a service.", "service", "backend", "direction")
	backendBytes       = counter("backend_bytes_total", "Bytes of IP packets, likewise.", "service", "backend", "direction")
)

// Workers, ports and queues.
var (
	workerReceived    = counter("worker_packets_received_total", "Packets taken from RX rings.", "worker", "cpu")
	workerForwarded   = counter("worker_packets_forwarded_total", "Packets sent on.", "worker", "cpu")
	workerDropped     = counter("worker_packets_dropped_total", "Packets dropped, whatever the reason.", "worker", "cpu")
	workerHanded      = counter("worker_hand_overs_total", "Frames given to, or taken from, the worker that owns their flow.", "worker", "cpu", "direction")
	workerTurns       = counter("worker_turns_total", "Turns of the worker's loop.", "worker", "cpu")
	workerBusySeconds = counter("worker_busy_seconds_total", "Time that went into frames.", "worker", "cpu")
	workerBusy        = gauge("worker_busy_ratio", "Share of the time since the scrape before, or the start, that went into frames.", "worker", "cpu")
	workerConnections = gauge("worker_connections", "Connections that the worker owns.", "worker", "cpu")
	workerFrames      = gauge("worker_frames_free", "Frames in the worker's stock.", "worker", "cpu")
	workerGap         = family("histogram", 0, "worker_turn_gap_seconds",
		"Time from the begin of a turn to the next, sleep left out: so long a packet may wait.", []string{"worker", "cpu"})

	portInfo = gauge("port_info", "1; io is the AF_XDP mode that the port really has.", "port", "io")
	portUp   = gauge("port_up", "Whether the link is up.", "port")
	portMTU  = gauge("port_mtu_bytes", "Its MTU.", "port")

	queueReceived = counter("queue_packets_received_total", "Packets from the queue's RX ring.", "port", "queue")
	queueSent     = counter("queue_packets_sent_total", "Packets put on the queue's TX ring.", "port", "queue")
	queueFull     = counter("queue_tx_full_total", "Packets dropped because the TX ring was full.", "port", "queue")
	queueWakeups  = counter("queue_wakeups_total", "System calls made for the queue.", "port", "queue")
	queueKernel   = counter("queue_kernel_events_total", "What the kernel counts for the socket (XDP_STATISTICS); rx_ring_full and "+
		"fill_ring_empty are packets lost before Sluice saw them.", "port", "queue", "event")
)
