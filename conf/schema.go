package conf

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/pipeline/service"
)

// Kind is the kind of value of a key.
type Kind uint8

// The kinds of value.
const (
	Integer   Kind = iota // Min to Max
	Integers              // at least one, each Min to Max and different
	Fraction              // a number from 0.01 to 1
	Duration              // a string such as "15m", from Min to Max nanoseconds
	Word                  // one of Words
	Text                  // a string that has the Form
	Address               // a unicast IP address
	Addresses             // at least one, each different
	Ports                 // an integer or a string: one port, a range, or "any"
	Prefixes              // IP prefixes, any number of them
	Table                 // [table]
	Tables                // [[table]], any number of times
)

// Setting describes one key, for the reader, the messages and the manual.
type Setting struct {
	Table    string // its table: "", "engine", "service.backend", ...
	Key      string
	Kind     Kind
	Min, Max int64    // of Integer, Integers and Duration
	OrZero   bool     // 0 is allowed although it is below Min
	Words    []string // of Word
	Form     string   // of Text: the allowed values
	Default  any      // int, float64, time.Duration or string; nil: none, see About
	Required bool
	Types    []string // of health checks that use the key; nil: all
	About    string   // for the manual

	check func(string) string // of Text: returns what is wrong, or ""
}

const (
	second = int64(time.Second)
	day    = int64(24 * time.Hour)
)

// Settings is every key with its default and range. No other code has defaults of its own.
var Settings = append([]Setting{
	{Table: "", Key: "engine", Kind: Table, About: "how the machine is used"},
	{Table: "", Key: "port", Kind: Tables, Required: true, About: "interfaces to receive from and send to; `port = []` together with `service = []` means none yet"},
	{Table: "", Key: "timeouts", Kind: Table, About: "how long idle connections are kept"},
	{Table: "", Key: "access", Kind: Table, About: "which clients may open connections, to any service"},
	{Table: "", Key: "api", Kind: Table, About: "the daemon's control socket and HTTP address"},
	{Table: "", Key: "service", Kind: Tables, Required: true, About: "virtual services; `service = []` means none yet"},

	{Table: "engine", Key: "cores", Kind: Integers, Max: 4095,
		About: "CPUs, one worker each. Without it: all allowed CPUs except the first, or the only one"},
	{Table: "engine", Key: "connections", Kind: Integer, Min: 1024, Max: 1 << 27, Default: 1 << 20,
		About: "how many connections the box can have, all workers and both families together; persistence entries count too. `check` prints the memory"},
	{Table: "engine", Key: "batch", Kind: Integer, Min: 1, Max: 256, Default: 64,
		About: "maximum number of frames that pass through the pipeline together"},
	{Table: "engine", Key: "poll", Kind: Word, Words: []string{string(PollAdaptive), string(PollBusy)}, Default: string(PollAdaptive),
		About: "what an idle worker does: adaptive sleeps after a moment, busy polls without pause for the lowest latency"},
	{Table: "engine", Key: "stuck_after", Kind: Duration, Min: second, Max: 300 * second, Default: 5 * time.Second,
		About: "a worker that has not run for so long ends the process, which systemd or `sluice keep` starts again. After 2s an alarm names it. A watchdog of theirs kills a process that is stopped or hangs as a whole for so long, or earlier if they say so"},
	{Table: "engine", Key: "on_stop", Kind: Word, Words: []string{string(OnStopPass), string(OnStopDrop)}, Default: string(OnStopPass),
		About: "what becomes of packets for services once no daemon runs. pass: after a planned end the kernel has them. drop: they are dropped, after a crash too, until a daemon runs or `sluice release` ends it; files in bpf_dir hold the XDP programs"},
	{Table: "engine", Key: "bpf_dir", Kind: Text, Form: "an absolute path", check: checkDir, Default: "/sys/fs/bpf/sluice",
		About: "a directory in a BPF file system, for on_stop = \"drop\". It is made if it is missing; the daemon's user must be allowed to write there"},
	{Table: "engine", Key: "adopt_per_second", Kind: Integer, Min: 0, Max: 1000000, Default: 100000,
		About: "connections that adopt = \"hash\" may open per second, all workers together. Segments beyond it are forwarded by the hash without an entry in the connection table"},
	{Table: "engine", Key: "hash_key", Kind: Text, Form: "a string of 1 to 256 bytes", check: sized(1, 256), Default: DefaultHashKey,
		About: "key of the mh scheduler: hosts with equal keys choose equal backends. The default is public"},

	{Table: "engine", Key: "state_dir", Kind: Text, Form: `an absolute path, or "" for none`, check: checkStateDir, Default: "/var/lib/sluice",
		About: "directory of run-time overrides and earlier configurations, which remain over restarts. If it cannot be written, or other users can write to it, they are in memory only"},

	{Table: "port", Key: "name", Kind: Text, Form: `the name of a network interface, such as "eth0"`, check: checkInterface, Required: true,
		About: "interface name"},
	{Table: "port", Key: "queues", Kind: Integers, Max: 4095, About: "RX queues to use. Without it: all"},
	{Table: "port", Key: "io", Kind: Word, Words: []string{string(IOAuto), string(IOZeroCopy), string(IOCopy), string(IOGeneric)}, Default: string(IOAuto),
		About: "AF_XDP mode: auto uses the first of the others that works"},

	{Table: "api", Key: "socket", Kind: Text, Form: "an absolute path of at most 107 bytes", check: checkSocket, Default: "/run/sluice/sluice.sock",
		About: "control socket"},
	{Table: "api", Key: "http", Kind: Text, Form: `host:port such as "127.0.0.1:9180", or "" for none`, check: checkHostPort, Default: "127.0.0.1:9180",
		About: "metrics, JSON and dashboard"},
	{Table: "api", Key: "host", Kind: Text, Form: "a host name", check: checkHost, Default: "",
		About: "host name in requests of browsers and Prometheus, besides addresses, localhost and the machine's own name"},
	{Table: "api", Key: "metrics", Kind: Word, Words: []string{string(MetricsBackends), string(MetricsServices)}, Default: string(MetricsBackends),
		About: "detail of /metrics: series for each backend, or only for each service, for configurations with thousands of backends"},
	{Table: "api", Key: "reads", Kind: Word, Words: []string{string(ReadsLoopback), string(ReadsOpen), string(ReadsToken)}, Default: string(ReadsLoopback),
		About: "who may read over http. loopback: all clients if http is a loopback address, else clients with the token; open: all clients; token: clients with the token"},
	{Table: "api", Key: "token_file", Kind: Text, Form: `an absolute path, or "" for none`, check: checkTokenFile, Default: "",
		About: "file with the token that changes over http need: one line of 16 to 1024 characters, not readable by other users. Read at each use"},

	{Table: "service", Key: "name", Kind: Text, Form: "1 to 64 printable characters without spaces", check: checkName,
		About: `unique name. Without it: PROTOCOL-ADDRESS-PORT, such as "tcp-198.51.100.10-80"`},
	{Table: "service", Key: "address", Kind: Address, Required: true, About: "what clients connect to"},
	{Table: "service", Key: "port", Kind: Ports, Required: true,
		About: "one port, a range, or all. The same address may have a service on \"any\" and others on a port or range: a port takes precedence over a range, a range over \"any\""},
	{Table: "service", Key: "protocol", Kind: Word, Words: service.Protocols, Default: "tcp", About: "transport protocol"},
	{Table: "service", Key: "mode", Kind: Word, Words: service.Modes, Default: "nat", About: "how packets reach the backends"},
	{Table: "service", Key: "scheduler", Kind: Word, Words: service.Schedulers, Default: "wlc", About: "how a backend is chosen"},
	{Table: "service", Key: "hash", Kind: Word, Words: []string{HashAddress, HashAddressPort}, Default: HashAddress,
		About: "scheduler mh only: what of the client it hashes. address-port distributes the connections of clients behind one address, such as those of a carrier's NAT"},
	{Table: "service", Key: "adopt", Kind: Word, Words: []string{AdoptHash, AdoptNever},
		About: "TCP segments of a connection that Sluice does not know, for example because it was restarted: hash forwards them to the backend that mh names (mode tun or dr), never answers with RST. The first packet of a connection is forwarded by the hash, too, and only the second one opens an entry, unless the service has persistence or limits. Without it: hash with scheduler mh if all backends have mode tun or dr, else never"},
	{Table: "service", Key: "persistence", Kind: Duration, Min: second, Max: day, OrZero: true, Default: time.Duration(0),
		About: "how long a client's new connections go to the same backend"},
	{Table: "service", Key: "source", Kind: Addresses, About: "fullnat only, and required there: local addresses to send from"},
	{Table: "service", Key: "on_down", Kind: Word, Words: []string{OnDownReset, OnDownKeep}, Default: OnDownReset,
		About: "connections of a backend that health checks have taken down: reset ends them (TCP by RST in nat and fullnat; UDP flows go to another backend), keep leaves them"},
	{Table: "service", Key: "on_remove", Kind: Word, Words: []string{OnRemoveKeep, OnRemoveReset}, Default: OnRemoveKeep,
		About: "connections of a backend that is taken out of the file: keep serves them until they end, reset ends them as on_down does"},
	{Table: "service", Key: "icmp_echo", Kind: Word, Words: []string{EchoWhenUp, EchoAlways, EchoNever}, Default: EchoWhenUp,
		About: "answers to pings of an address that no interface has: when_up only while the service takes new connections. With several services at the address, one that answers is enough"},
	{Table: "service", Key: "on_idle", Kind: Word, Words: []string{OnIdleReset, OnIdleSilent}, Default: OnIdleReset,
		About: "established TCP connections that were idle for tcp_established: reset sends both ends a RST (nat, fullnat), silent removes the connection without notice"},
	{Table: "service", Key: "slow_start", Kind: Duration, Min: second, Max: int64(time.Hour), OrZero: true, Default: time.Duration(0),
		About: "time in which the weight of a backend that comes up or is new grows to its full value. Without effect for schedulers that ignore weights: rr, lc, dh"},
	{Table: "service", Key: "timeouts", Kind: Table, About: "timeouts of this service's connections"},
	{Table: "service", Key: "access", Kind: Table, About: "which clients may open connections to this service"},
	{Table: "service", Key: "limits", Kind: Table, About: "limits on new connections to this service, for the box whatever the number of workers. A connection beyond one goes to the sorry server, or is dropped (`limited`)"},
	{Table: "service", Key: "health", Kind: Table, About: "how the backends are checked. Without it: always up"},
	{Table: "service", Key: "sorry", Kind: Table, About: "a server that takes new connections while no backend is up with a weight above 0"},
	{Table: "service", Key: "backend", Kind: Tables, Required: true, About: "real servers"},

	{Table: "service.health", Key: "type", Kind: Word, Default: HealthTCP,
		Words: []string{HealthTCP, HealthHTTP, HealthHTTPS, HealthUDP, HealthDNS, HealthPing, HealthNone},
		About: "kind of check. Without the table: none"},
	{Table: "service.health", Key: "interval", Kind: Duration, Min: second / 100, Max: day, Default: 2 * time.Second,
		About: "from the start of one check to the start of the next"},
	{Table: "service.health", Key: "timeout", Kind: Duration, Min: second / 100, Max: 300 * second, Default: time.Second,
		About: "a check that takes longer has failed"},
	{Table: "service.health", Key: "rise", Kind: Integer, Min: 1, Max: 1000, Default: 2,
		About: "successful checks in a row before a backend is up"},
	{Table: "service.health", Key: "fall", Kind: Integer, Min: 1, Max: 1000, Default: 3,
		About: "failed checks in a row before a backend is down"},
	{Table: "service.health", Key: "port", Kind: Integer, Min: 1, Max: 65535,
		About: "port to check. Without it: the backend's, so services with a range or any port need it"},
	{Table: "service.health", Key: "via", Kind: Word, Words: []string{ViaPath, ViaDirect}, Default: ViaPath,
		About: "tun and dr: path checks the service's address on the path of the clients' packets, so that a backend without the address or the decapsulator is down; direct checks the backend's own address. nat, fullnat and ping: always direct"},
	{Table: "service.health", Key: "path", Kind: Text, Form: `a path that begins with "/", without spaces`, check: checkPath, Default: "/",
		Types: []string{HealthHTTP, HealthHTTPS}, About: "request path"},
	{Table: "service.health", Key: "host", Kind: Text, Form: "a host name or address", check: checkHost, Default: "",
		Types: []string{HealthHTTP, HealthHTTPS}, About: "Host header and TLS server name. Without it: the checked address"},
	{Table: "service.health", Key: "expect_status", Kind: Integers, Min: 100, Max: 599,
		Types: []string{HealthHTTP, HealthHTTPS}, About: "accepted status codes. Without it: 200 to 399"},
	{Table: "service.health", Key: "expect_body", Kind: Text, Form: "a string of at most 1024 bytes", check: sized(0, 1024), Default: "",
		Types: []string{HealthHTTP, HealthHTTPS}, About: "text that the body must contain"},
	{Table: "service.health", Key: "send", Kind: Text, Form: "a string of at most 1024 bytes", check: sized(0, 1024), Default: "",
		Types: []string{HealthTCP, HealthUDP}, About: "bytes to send"},
	{Table: "service.health", Key: "expect", Kind: Text, Form: "a string of at most 1024 bytes", check: sized(0, 1024), Default: "",
		Types: []string{HealthTCP, HealthUDP}, About: "prefix that the answer must have"},
	{Table: "service.health", Key: "query", Kind: Text, Form: `a domain name such as "example.com", or "." for the root`, check: checkDomain, Default: ".",
		Types: []string{HealthDNS}, About: "name to query"},

	{Table: "service.health", Key: "min_healthy", Kind: Integer, Min: 0, Max: 100, Default: 50,
		About: "per cent of the backends with a weight above 0 that stay in use whatever the checks report. 0: none"},
	{Table: "service.health", Key: "flap_hold", Kind: Duration, Min: second, Max: int64(time.Hour), OrZero: true, Default: time.Minute,
		About: "how long checks must succeed before a backend is up again that has gone down more than 3 times recently"},

	{Table: "service.limits", Key: "connections", Kind: Integer, Min: 1, Max: 1 << 27,
		About: "connections that are established or being established; of UDP, all in the table. Those of the sorry server do not count"},
	{Table: "service.limits", Key: "new_per_second", Kind: Integer, Min: 1, Max: 1_000_000, About: "new connections in any second"},
	{Table: "service.limits", Key: "source_connections", Kind: Integer, Min: 1, Max: 1_000_000,
		About: "connections of one source, closed ones that are in the table included. About 200,000 sources at once are counted; others are let through"},
	{Table: "service.limits", Key: "source_new_per_second", Kind: Integer, Min: 1, Max: 1_000_000, About: "new connections of one source in any second"},
	{Table: "service.limits", Key: "source_prefix4", Kind: Integer, Min: 1, Max: 32, Default: 32,
		About: "how many first bits IPv4 clients have in common that are one source"},
	{Table: "service.limits", Key: "source_prefix6", Kind: Integer, Min: 1, Max: 128, Default: 128, About: "likewise of IPv6: 64 is the network of one site"},
	{Table: "service.limits", Key: "unproven", Kind: Fraction, Default: 0.5,
		About: "part of the connection table that connections may have which the other side has not taken part in, after the others are subtracted. Beyond it a new connection takes the place of the oldest of them"},

	{Table: "service.sorry", Key: "address", Kind: Address, Required: true, About: "address of the server"},
	{Table: "service.sorry", Key: "port", Kind: Ports, About: "as for a backend"},
	{Table: "service.sorry", Key: "mode", Kind: Word, Words: service.Modes, About: "Without it: the service's"},

	{Table: "service.backend", Key: "address", Kind: Address, Required: true, About: "address of the server"},
	{Table: "service.backend", Key: "port", Kind: Ports,
		About: "nat, fullnat: one port. Without it: the service's, or the client's destination port. tun, dr: must equal the service's"},
	{Table: "service.backend", Key: "weight", Kind: Integer, Min: 0, Max: 65535, Default: 1,
		About: "weight for new connections. 0 drains: existing connections continue, no new ones. The schedulers rr, lc and dh treat all weights above 0 alike"},
	{Table: "service.backend", Key: "mode", Kind: Word, Words: service.Modes, About: "Without it: the service's"},
	{Table: "service.backend", Key: "max_connections", Kind: Integer, Min: 1, Max: 1 << 27,
		About: "connections, closed ones that are in the table included, from which on the backend gets no new ones (ipvsadm -x). Persistent clients stay with it"},
	{Table: "service.backend", Key: "min_connections", Kind: Integer, Min: 1, Max: 1 << 27,
		About: "it gets new ones again when it has fewer than this (ipvsadm -y). Without it: than three quarters of max_connections"},
}, slices.Concat(timeoutSettings(), accessSettings())...)

// Limits on what a configuration may have. The data plane has numbers for about twice as many, for
// the connections of former ones.
const (
	MaxServices        = 65535
	MaxBackends        = 262144 // of all services together, sorry servers included
	maxServiceBackends = 65535  // of one service
)

// timeoutKeys lists every timeout with its default, that of IPVS (ip_vs_proto_tcp.c tcp_timeouts,
// ip_vs_proto_udp.c udp_timeouts).
var timeoutKeys = []struct {
	key   string
	value time.Duration
	about string
	field func(*Timeouts) *time.Duration
}{
	{"tcp_none", 2 * time.Second, "no state yet", func(t *Timeouts) *time.Duration { return &t.TCPNone }},
	{"tcp_established", 15 * time.Minute, "handshake done", func(t *Timeouts) *time.Duration { return &t.TCPEstablished }},
	{"tcp_syn_sent", 2 * time.Minute, "the backend has sent a SYN", func(t *Timeouts) *time.Duration { return &t.TCPSynSent }},
	{"tcp_syn_recv", time.Minute, "the client has sent a SYN", func(t *Timeouts) *time.Duration { return &t.TCPSynRecv }},
	{"tcp_fin_wait", 2 * time.Minute, "one side has closed", func(t *Timeouts) *time.Duration { return &t.TCPFinWait }},
	{"tcp_time_wait", 2 * time.Minute, "both have closed", func(t *Timeouts) *time.Duration { return &t.TCPTimeWait }},
	{"tcp_close", 10 * time.Second, "reset", func(t *Timeouts) *time.Duration { return &t.TCPClose }},
	{"tcp_close_wait", time.Minute, "no effect: a client's FIN alone does not change the state", func(t *Timeouts) *time.Duration { return &t.TCPCloseWait }},
	{"tcp_last_ack", 30 * time.Second, "waiting for the last ACK", func(t *Timeouts) *time.Duration { return &t.TCPLastAck }},
	{"tcp_listen", 2 * time.Minute, "waiting for a SYN", func(t *Timeouts) *time.Duration { return &t.TCPListen }},
	{"tcp_synack", 2 * time.Minute, "SYN+ACK seen", func(t *Timeouts) *time.Duration { return &t.TCPSynAck }},
	{"udp", 5 * time.Minute, "any UDP flow", func(t *Timeouts) *time.Duration { return &t.UDP }},
}

// timeoutSettings returns the settings of both tables of timeouts.
func timeoutSettings() []Setting {
	var all []Setting
	for _, t := range timeoutKeys {
		all = append(all, Setting{Table: "timeouts", Key: t.key, Kind: Duration, Min: second, Max: day, Default: t.value, About: t.about})
	}
	for _, t := range timeoutKeys {
		all = append(all, Setting{Table: "service.timeouts", Key: t.key, Kind: Duration, Min: second, Max: day,
			About: "Without it: the value in [timeouts]"})
	}
	return all
}

// settingsOf is Settings by table and key.
var settingsOf = func() map[string]map[string]*Setting {
	byTable := map[string]map[string]*Setting{}
	for i := range Settings {
		s := &Settings[i]
		if byTable[s.Table] == nil {
			byTable[s.Table] = map[string]*Setting{}
		}
		byTable[s.Table][s.Key] = s
	}
	return byTable
}()

// allowed returns the end of an error message: the values that are allowed.
func (s *Setting) allowed() string {
	if s.Kind == Word {
		return "must be " + s.Allowed()
	}
	return "allowed: " + s.Allowed()
}

// Allowed returns a description of the allowed values, for messages and the manual.
func (s *Setting) Allowed() string {
	switch s.Kind {
	case Integer:
		return fmt.Sprintf("an integer from %d to %d", s.Min, s.Max)
	case Integers:
		return fmt.Sprintf("a list of different integers from %d to %d, such as [%d, %d]", s.Min, s.Max, s.Min, s.Min+1)
	case Fraction:
		return "a number from 0.01 to 1"
	case Duration:
		zero := ""
		if s.OrZero {
			zero = `"0s" or `
		}
		return fmt.Sprintf(`%sa duration from %s to %s, such as "90s" or "15m"`, zero,
			shortDuration(time.Duration(s.Min)), shortDuration(time.Duration(s.Max)))
	case Word:
		return "one of " + strings.Join(s.Words, ", ")
	case Text:
		return s.Form
	case Address:
		return allowedAddress
	case Addresses:
		return `a list of different IP addresses, such as ["10.0.0.2", "10.0.0.3"]`
	case Ports:
		return allowedPorts
	case Prefixes:
		return "a list of prefixes, each " + allowedPrefix
	case Table:
		return "a table, [" + s.path() + "]"
	case Tables:
		return "tables, [[" + s.path() + "]]"
	}
	panic(fmt.Sprintf("conf: setting %s has no such kind: %d", s.path(), s.Kind))
}

const (
	allowedAddress = `an IPv4 or IPv6 address such as "198.51.100.10" or "2001:db8::10"`
	allowedPorts   = `a port from 1 to 65535, a range like "8000-8099", or "any"`
)

// path returns the key as in a header: "service.backend".
func (s *Setting) path() string {
	if s.Table == "" {
		return s.Key
	}
	return s.Table + "." + s.Key
}

// header returns the header of a section in a file.
func header(section string) string {
	switch section {
	case "":
		return "the top level"
	case "port", "service", "service.backend":
		return "[[" + section + "]]"
	}
	return "[" + section + "]"
}

// shortDuration returns a duration without the zero units that time.Duration prints: 15m, not
// 15m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
