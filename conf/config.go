package conf

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"sluice/pipeline/service"
)

// Config is a complete, checked configuration. It is immutable after Load has returned it.
type Config struct {
	Engine   Engine
	Ports    []Port // in the order of the file, at least one
	API      API
	Access   Access    // for all services
	Services []Service // in the order of the file, at least one
	Text     string    // the text that it was read from, byte for byte
}

// Engine is the configuration of workers and memory.
type Engine struct {
	Cores       []int // CPU numbers, one worker each; nil: all allowed CPUs but the first
	Connections int   // capacity of the connection tables, all workers and both families together
	Batch       int   // maximum number of frames that pass through the pipeline together
	Poll        Poll
	StuckAfter  time.Duration // a worker that has not answered for so long ends the process
	StateDir    string        // directory of data that remains over restarts; "": in memory only
	HashKey     string        // of mh: hosts with equal keys choose equal backends
	// AdoptPerSecond is how many connections AdoptHash may open per second.
	AdoptPerSecond int

	OnStop OnStop
	BPFDir string // where files hold the XDP programs, for OnStopDrop
}

// OnStop is what becomes of packets for services once no daemon runs.
type OnStop string

// The values of OnStop.
const (
	OnStopPass OnStop = "pass" // the kernel has them after a planned end
	OnStopDrop OnStop = "drop" // the XDP programs stay, and drop them
)

// Poll is what a worker does when no frames arrive.
type Poll string

// The values of Poll.
const (
	PollAdaptive Poll = "adaptive" // polls for a moment, then sleeps in poll(2)
	PollBusy     Poll = "busy"     // never sleeps: lowest latency, one CPU fully used per worker
)

// DefaultHashKey is the key of the mh scheduler when the file has no hash_key. It is public: where
// clients might choose source ports in order to hit one backend, set another hash_key, equal on all
// hosts.
const DefaultHashKey = "sluice"

// Port is a network interface that Sluice receives from and sends to.
type Port struct {
	Name   string // interface name
	Queues []int  // RX queues to use; nil: all
	IO     IO
	Line   int // line of its [[port]]
}

// IO is the mode in which AF_XDP is attached to a port.
type IO string

// The values of IO.
const (
	IOAuto     IO = "auto"     // the first of the others that works, in this order
	IOZeroCopy IO = "zerocopy" // the driver writes into our memory
	IOCopy     IO = "copy"     // the driver runs the XDP program, the kernel copies
	IOGeneric  IO = "generic"  // XDP after the driver: works everywhere, slow
)

// API is the configuration of the daemon's interfaces for control.
type API struct {
	Socket string // path of the control socket
	HTTP   string // host:port of metrics, JSON and dashboard; "": none
	// Host is the host name in HTTP requests, besides addresses, localhost and the machine's own
	// name; "": none.
	Host      string
	Metrics   Metrics
	Reads     Reads  // over HTTP
	TokenFile string // file with the token that changes over HTTP need; "": no changes over HTTP
}

// Metrics is the detail of the metrics.
type Metrics string

// The values of Metrics: what has series of its own.
const (
	MetricsBackends Metrics = "backends" // each backend of each service
	MetricsServices Metrics = "services" // each service
)

// Reads is who may read over HTTP. Changes always need the token.
type Reads string

// The values of Reads.
const (
	// ReadsLoopback: all clients if HTTP is a loopback address, else clients with the token.
	ReadsLoopback Reads = "loopback"
	ReadsOpen     Reads = "open"  // all clients
	ReadsToken    Reads = "token" // clients with the token
)

// Timeouts are how long a connection is kept after its last packet, by its state. The states and
// defaults are those of IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
type Timeouts struct {
	TCPNone        time.Duration
	TCPEstablished time.Duration
	TCPSynSent     time.Duration
	TCPSynRecv     time.Duration
	TCPFinWait     time.Duration
	TCPTimeWait    time.Duration
	TCPClose       time.Duration
	TCPCloseWait   time.Duration
	TCPLastAck     time.Duration
	TCPListen      time.Duration
	TCPSynAck      time.Duration
	UDP            time.Duration
}

// Service is a virtual service: what clients connect to.
type Service struct {
	// Name is unique. The default is PROTOCOL-ADDRESS-PORT: "tcp-198.51.100.10-80",
	// "udp-2001:db8::10-any".
	Name        string
	Key         service.Key   // unique; keys overlap only where one of them has any port
	Mode        service.Mode  // of backends without a mode
	Scheduler   string        // one of service.Schedulers
	Hash        string        // of mh: HashAddress or HashAddressPort
	Adopt       string        // AdoptHash, AdoptNever or, by scheduler and modes, ""; see Adopts
	Persistence time.Duration // 0: none
	Source      []netip.Addr  // fullnat: addresses to send from, of the family of the service
	// OnDown is OnDownReset or OnDownKeep.
	OnDown string
	// OnRemove is OnRemoveKeep or OnRemoveReset.
	OnRemove string
	// ICMPEcho is EchoWhenUp, EchoAlways or EchoNever.
	ICMPEcho string
	// OnIdle is OnIdleReset or OnIdleSilent.
	OnIdle string
	// SlowStart is the time in which the weight of a backend that comes up or is new grows; 0: at
	// once.
	SlowStart time.Duration
	Timeouts  Timeouts // [service.timeouts], else [timeouts], else defaults
	Access    Access   // besides that of the Config: both must allow a client
	Limits    Limits
	Health    Health
	Sorry     *Backend  // takes new connections while no backend is up, with weight 1; nil: none
	Backends  []Backend // in the order of the file, at least one
	Line      int       // line of its [[service]]
}

// Limits are limits on the new connections of a service, all workers together; 0: none.
type Limits struct {
	Connections  int // that are established or being established; UDP: all
	NewPerSecond int

	// Of the clients with this many first bits of their address in common.
	SourceConnections, SourceNewPerSecond int
	SourcePrefix4, SourcePrefix6          int

	// Unproven is the part of the connection table for connections that the other side has not
	// taken part in, after those that it has are subtracted.
	Unproven float64
}

// Servers returns the backends, and the sorry server last if there is one.
func (s *Service) Servers() []Backend {
	if s.Sorry == nil {
		return s.Backends
	}
	return append(slices.Clip(s.Backends), *s.Sorry)
}

// EachBackend iterates over the backends of all services in order, without sorry servers. The
// pointers are into c.
func (c *Config) EachBackend() iter.Seq2[service.BackendID, *Backend] {
	return func(yield func(service.BackendID, *Backend) bool) {
		for i := range c.Services {
			s := &c.Services[i]
			for j := range s.Backends {
				if b := &s.Backends[j]; !yield(s.Key.BackendID(b.Key), b) {
					return
				}
			}
		}
	}
}

// What of a client the scheduler mh hashes.
const (
	HashAddress     = "address"
	HashAddressPort = "address-port"
)

// What happens to a TCP segment that belongs to no known connection and opens none.
const (
	AdoptHash  = "hash"  // it goes to the backend that mh names, and opens the connection
	AdoptNever = "never" // it is answered with RST
)

// What happens to the connections of a backend that health checks have taken down.
const (
	// OnDownReset ends them: TCP is reset where replies pass through Sluice, UDP flows go to
	// another backend.
	OnDownReset = "reset"
	OnDownKeep  = "keep" // they continue
)

// What happens to the connections of a backend that is taken out of the configuration.
const (
	OnRemoveKeep  = "keep"  // they continue until they end
	OnRemoveReset = "reset" // as with OnDownReset
)

// When a service makes its address answer ICMP echo requests, if no interface has the address.
const (
	EchoWhenUp = "when_up" // while the service takes new connections
	EchoAlways = "always"
	EchoNever  = "never"
)

// What happens to an established TCP connection that carries nothing for the time of its timeout.
const (
	OnIdleReset  = "reset"  // both ends are reset where replies pass through Sluice
	OnIdleSilent = "silent" // it is removed without notice
)

// The types of a health check.
const (
	HealthNone  = "none"
	HealthTCP   = "tcp"
	HealthHTTP  = "http"
	HealthHTTPS = "https"
	HealthUDP   = "udp"
	HealthDNS   = "dns"
	HealthPing  = "ping"
)

// The paths of the checks of tun and dr backends.
const (
	ViaPath   = "path"   // that of the clients' packets: to the service's address
	ViaDirect = "direct" // to the backend's own address
)

// Health is how the backends of a service are checked. Without a [service.health] table the type is
// HealthNone and a backend is always up; all other fields then have their defaults.
type Health struct {
	Type     string        // one of the constants above
	Interval time.Duration // from the start of one check to the start of the next
	Timeout  time.Duration // a check that takes longer has failed
	Rise     int           // checks in a row that must succeed before a backend is up
	Fall     int           // checks in a row that must fail before a backend is down
	Port     int           // port to check; 0: the backend's
	// Via: tun, dr: ViaPath or ViaDirect; other modes are always checked directly.
	Via  string
	Path string // http, https: request path with query
	// Host: http, https: Host header and TLS server name; "": the checked address.
	Host         string
	ExpectStatus []int  // http, https: accepted status codes; nil: 200 to 399
	ExpectBody   string // http, https: text that the body must contain; "": any body
	Send         string // tcp, udp: bytes to send; "": none (udp: an empty datagram)
	Expect       string // tcp, udp: prefix of the answer; "": any answer
	Query        string // dns: name to query
	// MinHealthy is the percentage of the backends that stay in use whatever the checks report; 0:
	// none must.
	MinHealthy int
	// FlapHold is how long checks of a flapping backend must succeed before it is up; 0: as for
	// others.
	FlapHold time.Duration
}

// Backend is a real server of a service.
type Backend struct {
	// Key is unique in its service. The default of its port is the service's port; 0, for services
	// with a range or any port, leaves the client's destination port.
	Key    service.BackendKey
	Weight int // 0: drained, existing connections continue and no new ones start
	// MaxConnections: from so many on it gets no new ones, until it has fewer than MinConnections,
	// or than three quarters if that is 0; 0: no limit.
	MaxConnections, MinConnections int
	Mode                           service.Mode // the service's unless the backend has its own
	Line                           int          // line of its [[service.backend]]
}
