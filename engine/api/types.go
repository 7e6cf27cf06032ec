package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"

	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// Control is what a running daemon can be asked for. engine.Engine implements it, Serve offers it
// on a socket, and Client implements it again on the other end, so that a verb cannot tell the
// difference. All methods may be called from any goroutine.
type Control interface {
	AlarmControl
	Diagnostics

	// List gives all services in the order of the configuration, each with its backends in order.
	List(ctx context.Context) ([]Service, error)

	// Conns gives the live connections that the query selects, in no particular order.
	Conns(ctx context.Context, q ConnQuery) ([]Conn, error)

	// Stats gives a snapshot of all counters since the start of the daemon.
	Stats(ctx context.Context) (Stats, error)

	// SetWeight gives a backend a weight of 0 (drain) to MaxWeight until the file gives it a new
	// one. The service is named by Service.Name, the backend by Backend.Endpoint; the server has
	// resolved shorter forms before. Errors are NoSuchService, NoSuchBackend, or say why the weight
	// cannot be.
	SetWeight(ctx context.Context, service, backend string, weight int) (Backend, error)

	// Reload reads the configuration file again and publishes it. On error nothing has changed; an
	// error made of several (errors.Join) reaches the client as that many lines. A file that looks
	// cut off or takes most of what runs away is an error, unless the options force it.
	Reload(ctx context.Context, o ReloadOptions) (ReloadResult, error)

	Changes
}

// MaxWeight is the greatest weight of a backend.
const MaxWeight = 65535

// States of a backend.
const (
	StateUp    = "up"    // healthy: takes new connections
	StateDown  = "down"  // health checks fail: takes no new connections
	StateDrain = "drain" // weight 0: existing connections go on, no new ones

	StateStandby = "standby" // a sorry server that has nothing to do
)

// Service is one configured service and what it has carried.
type Service struct {
	Name         string    `json:"name"`
	Address      string    `json:"address"`
	Port         Port      `json:"port"`
	Protocol     string    `json:"protocol"`
	Mode         string    `json:"mode"`
	Scheduler    string    `json:"scheduler"`
	PersistenceS float64   `json:"persistence_s"` // 0: none
	Backends     []Backend `json:"backends"`
	Sorry        *Backend  `json:"sorry,omitempty"`         // its state is up while it takes new connections, else standby
	HealthFrozen bool      `json:"health_frozen,omitempty"` // the backends' states stay as they are
	Alarms       []Alarm   `json:"alarms,omitempty"`        // about this service

	// The sums since the start; they include backends that are no longer configured.
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"`     // from clients
	Bytes       uint64 `json:"bytes"`       // from clients, IP headers included
	PacketsOut  uint64 `json:"packets_out"` // to clients; 0 in tun and dr mode, where replies pass us by
	BytesOut    uint64 `json:"bytes_out"`
}

// Key is the text that names a service besides its name: "tcp 198.51.100.10:80", "udp
// [2001:db8::1]:any".
func (s Service) Key() string { return s.Protocol + " " + endpoint(s.Address, s.Port.String()) }

// Backend is one real server of a service and what it has carried since the start.
type Backend struct {
	Address          string  `json:"address"`
	Port             Port    `json:"port"` // 0: the port that the client asked for
	Weight           int     `json:"weight"`
	ConfiguredWeight int     `json:"configured_weight"` // what the file says; differs after drain or weight
	Mode             string  `json:"mode"`
	State            string  `json:"state"`                // up, down or drain
	StateSinceS      float64 `json:"state_since_s"`        // seconds since it entered the state
	LastError        string  `json:"last_error,omitempty"` // why the last health check failed; "": it didn't, or there was none
	Reason           string  `json:"reason,omitempty"`     // why it is in the state, in words
	Protected        bool    `json:"protected,omitempty"`  // down, but takes new connections: too few would be left
	SlowStart        float64 `json:"slow_start,omitempty"` // the part of its weight that it has while that grows, below 1; 0: all
	Override         string  `json:"override,omitempty"`   // Override.State of what was set at run time

	// Note is in the answer to an order only: what whoever gave it should know. "": nothing.
	Note string `json:"note,omitempty"`

	Active      uint32 `json:"active"`   // connections that are established or about to be
	Inactive    uint32 `json:"inactive"` // all others in the table
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"` // directions as in Service
	Bytes       uint64 `json:"bytes"`
	PacketsOut  uint64 `json:"packets_out"`
	BytesOut    uint64 `json:"bytes_out"`
}

// Endpoint is the text that names a backend within its service: "10.0.0.11:8080",
// "[2001:db8::11]:80".
func (b Backend) Endpoint() string { return endpoint(b.Address, b.Port.String()) }

// Conn is one connection of the table.
type Conn struct {
	Service  string  `json:"service"`
	Protocol string  `json:"protocol"`
	Client   string  `json:"client"`  // address:port
	Virtual  string  `json:"virtual"` // address:port that the client asked for
	Backend  string  `json:"backend"` // address:port
	State    string  `json:"state"`   // IPVS's names: SYN_RECV, ESTABLISHED, FIN_WAIT, UDP, ...
	Mode     string  `json:"mode"`
	ExpiresS float64 `json:"expires_s"`
	Worker   int     `json:"worker"`
}

// ConnQuery selects connections; an empty field selects all.
type ConnQuery struct {
	Service string // Service.Name
	Client  string // address, or address:port
	Backend string // address, or address:port
	Limit   int    // at most so many; 0: no limit
}

// Stats is a snapshot of the daemon's counters. Rx = Forwarded + Replied + the sum of Drops, to the
// packet, once no packet is under way.
type Stats struct {
	Version string  `json:"version"`
	UptimeS float64 `json:"uptime_s"`

	Rx        uint64            `json:"rx"`        // packets taken from RX rings
	Forwarded uint64            `json:"forwarded"` // packets sent on, either direction
	Replied   uint64            `json:"replied"`   // packets answered by us (RST, ICMP)
	Drops     map[string]uint64 `json:"drops"`     // by DropReason.Name, zeros included

	// Originated is what was sent without being asked: segments that wake idle ends of connections
	// whose backend was evicted. It is no part of the sum.
	Originated uint64 `json:"originated"`

	Workers []WorkerStats `json:"workers"`
	Ports   []PortStats   `json:"ports"`
	Frames  FrameStats    `json:"frames"`

	TablesPublished uint64 `json:"tables_published"` // sets of tables given to the workers: one for each change that they see

	Tables TableStats `json:"tables"`
}

// Dropped is the sum of all drops.
func (s Stats) Dropped() uint64 {
	var n uint64
	for _, count := range s.Drops {
		n += count
	}
	return n
}

// WorkerStats is what one worker did. Ratios are over the time since the start.
type WorkerStats struct {
	Worker            int     `json:"worker"`
	CPU               int     `json:"cpu"`
	Rx                uint64  `json:"rx"`
	Forwarded         uint64  `json:"forwarded"`
	Replied           uint64  `json:"replied"`
	Dropped           uint64  `json:"dropped"`
	HandOversOut      uint64  `json:"hand_overs_out"` // frames given to the worker that owns their flow
	HandOversIn       uint64  `json:"hand_overs_in"`
	Loops             uint64  `json:"loops"`
	PacketsPerBatch   float64 `json:"packets_per_batch"` // over batches that were not empty
	SyscallsPerPacket float64 `json:"syscalls_per_packet"`
	BusyShare         float64 `json:"busy_share"` // of the time since the start, 0 to 1, that went into frames
	BusyS             float64 `json:"busy_s"`     // seconds that went into frames
	RunS              float64 `json:"run_s"`      // seconds since the worker started
	StageNs           StageNs `json:"stage_ns"`
	GapNs             GapNs   `json:"gap_ns"`
	FramesFree        uint64  `json:"frames_free"`
	Connections       uint64  `json:"connections"`
}

// StageNs is the time that a packet takes in each part of the worker's loop, in nanoseconds.
type StageNs struct {
	Receive  float64 `json:"receive"`
	Process  float64 `json:"process"`
	Transmit float64 `json:"transmit"` // with the system calls that send
}

// GapNs says how long packets wait because the worker is busy or was not running: the time from the
// begin of one turn of its loop to the next, in nanoseconds. Sleep for want of packets doesn't
// count.
type GapNs struct {
	P50  uint64 `json:"p50"`
	P99  uint64 `json:"p99"`
	P999 uint64 `json:"p99_9"`
	Max  uint64 `json:"max"`
	Sum  uint64 `json:"sum"`

	// Counts are how many gaps were shorter than the GapBounds of the same index, and not shorter
	// than the bound before; the last one, beyond the bounds, counts all others.
	Counts []uint64 `json:"counts,omitempty"`
}

// GapBounds are the bounds of GapNs.Counts in nanoseconds: powers of four, from a microsecond to
// four seconds.
var GapBounds = []uint64{1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30, 1 << 32}

// I/O modes of a port, from best to worst.
const (
	IOZeroCopy = "zerocopy" // driver mode, the NIC writes into our frames
	IOCopy     = "copy"     // driver mode, the kernel copies
	IOGeneric  = "generic"  // no XDP support in the driver: the kernel builds an skb first
)

// PortStats is one network port.
type PortStats struct {
	Name   string       `json:"name"`
	IO     string       `json:"io"` // zerocopy, copy or generic: what was had, not what was asked for
	Up     bool         `json:"up"`
	MTU    int          `json:"mtu"`
	Queues []QueueStats `json:"queues"`
}

// QueueStats is one AF_XDP socket. The kernel's fields are its XDP_STATISTICS (struct
// xdp_statistics).
type QueueStats struct {
	Queue  int    `json:"queue"`
	Worker int    `json:"worker"`
	Rx     uint64 `json:"rx"`
	Tx     uint64 `json:"tx"`

	KernelRxDropped     uint64 `json:"kernel_rx_dropped"` // dropped for reasons other than those below
	KernelRxInvalid     uint64 `json:"kernel_rx_invalid_descs"`
	KernelTxInvalid     uint64 `json:"kernel_tx_invalid_descs"`
	KernelRxRingFull    uint64 `json:"kernel_rx_ring_full"`             // we were too slow
	KernelFillRingEmpty uint64 `json:"kernel_rx_fill_ring_empty_descs"` // no free frame was there
	KernelTxRingEmpty   uint64 `json:"kernel_tx_ring_empty_descs"`
	TxRingFull          uint64 `json:"tx_ring_full"` // frames dropped as tx_full on this queue
	Wakeups             uint64 `json:"wakeups"`      // system calls made for this queue
}

// FrameStats says who owns the frames of the UMEM: Total is the sum of all others, always.
type FrameStats struct {
	Total      uint64 `json:"total"`
	Free       uint64 `json:"free"`
	Fill       uint64 `json:"fill"`
	Rx         uint64 `json:"rx"`
	Tx         uint64 `json:"tx"`
	Completion uint64 `json:"completion"`
	InFlight   uint64 `json:"in_flight"` // in a worker's batch or on a hand-over ring
}

// TableStats is the fill of the connection tables, all workers together.
type TableStats struct {
	ConnectionsV4 uint64 `json:"connections_v4"`
	ConnectionsV6 uint64 `json:"connections_v6"`
	Capacity      uint64 `json:"capacity"` // [engine] connections
}

// ReloadOptions says how a file is read again.
type ReloadOptions struct {
	Force bool // take it even if it removes more than half of what runs, or looks cut off
}

// ReloadResult says what a reload did.
type ReloadResult struct {
	Changes  []string `json:"changes"`            // one line each; empty: the file says what was running already
	Warnings []string `json:"warnings,omitempty"` // what changed in the file but needs a restart
}

// Port is what a service or a backend listens on. In JSON it is a number for a single port, else
// "8000-8099" or "any".
type Port service.Ports

// SinglePort is the Port that is one number.
func SinglePort(port uint16) Port { return Port{First: port, Last: port} }

// String gives "80", "8000-8099" or "any", and "0" for a backend that takes the client's port.
func (p Port) String() string { return service.Ports(p).String() }

// MarshalJSON implements json.Marshaler.
func (p Port) MarshalJSON() ([]byte, error) {
	if service.Ports(p).Single() {
		return strconv.AppendUint(nil, uint64(p.First), 10), nil
	}
	return json.Marshal(p.String())
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Port) UnmarshalJSON(data []byte) error {
	var number uint16
	if json.Unmarshal(data, &number) == nil {
		*p = SinglePort(number)
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("port %s is neither a number 0-65535 nor a string", data)
	}
	ports, err := service.ParsePorts(text)
	*p = Port(ports)
	return err
}

// endpoint joins an address and a port, with brackets around IPv6.
func endpoint(address, port string) string {
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() {
		return "[" + address + "]:" + port
	}
	return address + ":" + port
}

// DropReason is one way in which a packet can be dropped: a key of Stats.Drops and what it means.
type DropReason struct{ Name, Text string }

// DropReasons lists all reasons, in the order in which a packet meets them.
func DropReasons() []DropReason {
	var all []DropReason
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		all = append(all, DropReason{r.String(), r.Text()})
	}
	return all
}
