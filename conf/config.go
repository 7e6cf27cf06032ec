package conf

import (
	"iter"
	"net/netip"
	"slices"
	"time"

	"sluice/pipeline/service"
)

// Config is a whole, checked configuration. It is never changed after Load has returned it.
type Config struct {
	Engine   Engine
	Ports    []Port    // in the order of the file, at least one
	API      API       //
	Services []Service // in the order of the file, at least one
	Text     string    // what it was read from, byte for byte
}

// Engine says how the machine is used.
type Engine struct {
	Cores       []int  // CPU numbers, one worker each; nil: all allowed CPUs but the first
	Connections int    // capacity of the connection table, all workers together
	Batch       int    // frames that go through the pipeline together, at most
	Poll        Poll   //
	StateDir    string // directory for what outlives a restart; "": memory only
	HashKey     string // key of the mh scheduler: boxes with equal keys choose equal backends
}

// Poll says what a worker does when no frames arrive.
type Poll string

// The ways to wait.
const (
	PollAdaptive Poll = "adaptive" // spins for a moment, then sleeps in poll(2)
	PollBusy     Poll = "busy"     // never sleeps: lowest latency, one CPU used up per worker
)

// DefaultHashKey keys the mh scheduler when the file has no hash_key. It is public: who fears
// clients that choose source ports in order to hit one backend sets a hash_key of his own, equal on
// all boxes.
const DefaultHashKey = "sluice"

// Port is a network interface that Sluice receives from and sends to.
type Port struct {
	Name   string // interface name
	Queues []int  // RX queues to take; nil: every one
	IO     IO     //
	Line   int    // line of its [[port]]
}

// IO says how AF_XDP is to be attached to a port.
type IO string

// The ways to attach.
const (
	IOAuto     IO = "auto"     // the first of the others that works, in this order
	IOZeroCopy IO = "zerocopy" // the driver writes into our memory
	IOCopy     IO = "copy"     // the driver runs the XDP program, the kernel copies
	IOGeneric  IO = "generic"  // XDP behind the driver: works everywhere, slow
)

// API is where the daemon can be talked to.
type API struct {
	Socket    string // path of the control socket
	HTTP      string // host:port of metrics, JSON and dashboard; "": none
	Host      string // name by which HTTP is asked, besides addresses, localhost and the machine's own; "": none
	Metrics   Metrics
	Reads     Reads  // over HTTP
	TokenFile string // holds the token that changes over HTTP need; "": nobody has one
}

// Metrics says how fine the metrics are.
type Metrics string

// What has series of its own.
const (
	MetricsBackends Metrics = "backends" // each backend of each service
	MetricsServices Metrics = "services" // each service
)

// Reads says who may read over HTTP. Changes need the token, always.
type Reads string

// The ways to read.
const (
	ReadsLoopback Reads = "loopback" // everybody if HTTP is a loopback address, else who has the token
	ReadsOpen     Reads = "open"     // everybody
	ReadsToken    Reads = "token"    // who has the token
)

// Timeouts says how long a connection lives after its last packet, by the state it is in. The
// states and defaults are those of IPVS (net/netfilter/ipvs/ip_vs_proto_tcp.c, ip_vs_proto_udp.c).
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
	// Name is unique. A service without one is called PROTOCOL-ADDRESS-PORT:
	// "tcp-198.51.100.10-80", "udp-2001:db8::10-any".
	Name        string
	Key         service.Key   // unique; keys overlap only where one of them has any port
	Mode        service.Mode  // of backends that name none
	Scheduler   string        // one of service.Schedulers
	Persistence time.Duration // 0: none
	Source      []netip.Addr  // fullnat: addresses to send from, of the family of the service
	OnDown      string        // what becomes of the connections of a backend that is down: OnDownReset or OnDownKeep
	SlowStart   time.Duration // how long the weight of a backend that comes up or is new grows; 0: not at all
	Timeouts    Timeouts      // the service's own over [timeouts] over the defaults
	Health      Health        //
	Sorry       *Backend      // takes new connections while no backend is up, with weight 1; nil: none
	Backends    []Backend     // in the order of the file, at least one
	Line        int           // line of its [[service]]
}

// Servers lists the backends, and the sorry server last if there is one.
func (s *Service) Servers() []Backend {
	if s.Sorry == nil {
		return s.Backends
	}
	return append(slices.Clip(s.Backends), *s.Sorry)
}

// EachBackend visits the backends of all services in order, without sorry servers. The pointers are
// into c.
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

// What becomes of the connections of a backend that health checks have taken out.
const (
	OnDownReset = "reset" // they end: TCP is reset where replies pass through us, UDP goes on at another backend
	OnDownKeep  = "keep"  // they go on, in the hope that the backend does
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

// The ways that checks of tun and dr backends take.
const (
	ViaPath   = "path"   // as clients' packets: to the service's address
	ViaDirect = "direct" // to the backend's own address
)

// Health says how the backends of a service are checked. Without a [service.health] table the type
// is HealthNone and a backend is always up; all other fields hold their defaults even then.
type Health struct {
	Type         string        // one of the constants above
	Interval     time.Duration // from the start of one check to the start of the next
	Timeout      time.Duration // a check that takes longer has failed
	Rise         int           // checks in a row that must succeed before a backend is up
	Fall         int           // checks in a row that must fail before a backend is down
	Port         int           // port to check; 0: the backend's
	Via          string        // tun, dr: ViaPath or ViaDirect; others are always checked directly
	Path         string        // http, https: request path with query
	Host         string        // http, https: Host header and TLS server name; "": the address that is checked
	ExpectStatus []int         // http, https: good status codes; nil: 200 to 399
	ExpectBody   string        // http, https: text that the body must contain; "": any body
	Send         string        // tcp, udp: bytes to send; "": none (udp: an empty datagram)
	Expect       string        // tcp, udp: what the answer must begin with; "": any answer
	Query        string        // dns: name to ask for
	MinHealthy   int           // per cent of the backends that stay in the choice whatever the checks say; 0: none need to
	FlapHold     time.Duration // how long a backend that flaps must be good before it is up; 0: no longer than others
}

// Backend is a real server of a service.
type Backend struct {
	// Key is unique in its service. Its port is the service's port if none is given; 0, for
	// services with a range or any port, keeps the port that the client asked for.
	Key    service.BackendKey
	Weight int          // 0: drained, existing connections go on and no new ones come
	Mode   service.Mode // the service's unless the backend has its own
	Line   int          // line of its [[service.backend]]
}
