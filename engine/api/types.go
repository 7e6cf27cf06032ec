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

// Control is the interface to a running daemon. engine.Engine implements it, Serve offers it on a
// socket, and Client implements it on the other end, so that verbs work with either. Any goroutine
// may call its methods.
//
// No method waits for a worker for more than about a second: the error is then an *Unresponsive,
// and the answer beside it is valid. A change is not made once its context has ended.
type Control interface {
	AccessControl
	AlarmControl
	Diagnostics

	// List returns all services in the order of the configuration, each with its backends in order.
	List(ctx context.Context) ([]Service, error)

	// Backend returns one backend of a service. The cost does not depend on how many are
	// configured. Names and errors are as in SetWeight.
	Backend(ctx context.Context, service, backend string) (Backend, error)

	// Conns returns the connections that the query selects, in no particular order.
	Conns(ctx context.Context, q ConnQuery) ([]Conn, error)

	// Stats returns a snapshot of all counters since the start of the daemon.
	Stats(ctx context.Context) (Stats, error)

	// SetWeight sets a backend's weight to 0 (drain) to MaxWeight until the file has a new one. The
	// service is identified by Service.Name, the backend by Backend.Endpoint; the server resolves
	// shorter forms before. Errors are NoSuchService, NoSuchBackend, or the reason why the weight
	// is impossible.
	SetWeight(ctx context.Context, service, backend string, weight int) (Backend, error)

	// Reload reads the configuration file again and activates it. On error nothing has changed;
	// joined errors (errors.Join) reach the client as one line each. A file that looks truncated or
	// removes most of the active configuration is an error, unless the options force it.
	Reload(ctx context.Context, o ReloadOptions) (ReloadResult, error)

	Changes
}

// MaxWeight is the greatest weight of a backend.
const MaxWeight = 65535

// States of a backend.
const (
	StateUp = "up" // healthy: takes new connections
	// StateDown: health checks fail, or no packet can be sent to it: it takes no new connections,
	// unless Protected
	StateDown  = "down"
	StateDrain = "drain" // weight 0: existing connections continue, no new ones

	StateStandby = "standby" // a sorry server that takes no new connections
)

// Service is one configured service with its counters.
type Service struct {
	Name         string    `json:"name"`
	Address      string    `json:"address"`
	Port         Port      `json:"port"`
	Protocol     string    `json:"protocol"`
	Mode         string    `json:"mode"`
	Scheduler    string    `json:"scheduler"`
	PersistenceS float64   `json:"persistence_s"` // 0: none
	Backends     []Backend `json:"backends"`
	// Sorry is the sorry server; its state is up while it takes new connections, else standby.
	Sorry        *Backend `json:"sorry,omitempty"`
	HealthFrozen bool     `json:"health_frozen,omitempty"` // the backends' states do not change
	Alarms       []Alarm  `json:"alarms,omitempty"`        // about this service

	// The server sets these: how many backends are in each state, States.Fraction, and ServiceNote.
	States    BackendCounts `json:"states"`
	StateName string        `json:"state_name"`
	StateNote string        `json:"state_note,omitempty"`
	// RefusedNote is RefusedNote of it; the server sets it, too.
	RefusedNote string `json:"refused_note,omitempty"`

	// The sums since the start, including backends that are no longer configured.
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"` // from clients
	Bytes       uint64 `json:"bytes"`   // from clients, IP headers included
	// PacketsOut counts packets to clients; 0 in tun and dr mode, where replies bypass Sluice.
	PacketsOut uint64 `json:"packets_out"`
	BytesOut   uint64 `json:"bytes_out"`
	// AccessDenied counts packets of clients that may not open connections ([access]).
	AccessDenied uint64 `json:"access_denied"`
	// Limited counts new connections beyond a limit, by the key of the limit, whether they were
	// dropped or went to the sorry server.
	Limited map[string]uint64 `json:"limited,omitempty"`
	// FoundFull counts new connections that found the service's part of the table used up, the
	// table full, or no SNAT port, TableFull those of them that were dropped, and Untracked those
	// that a hash forwarded without an entry. The others took the place of other connections.
	FoundFull uint64 `json:"found_full"`
	TableFull uint64 `json:"table_full"`
	Untracked uint64 `json:"untracked"`
	Displaced uint64 `json:"displaced"` // connections that were removed before their timeouts
	// Unproven counts connections now in which the other side has not taken part.
	Unproven uint64 `json:"unproven"`
	// Pressure is what a full table does to the service now.
	Pressure *Pressure `json:"pressure,omitempty"`
	// FirstTotal counts first packets that a hash forwarded without an entry.
	FirstTotal   uint64        `json:"first_packets_total"`
	FirstPackets *FirstPackets `json:"first_packets,omitempty"`
}

// Key returns the text that identifies a service besides its name: "tcp 198.51.100.10:80", "udp
// [2001:db8::1]:any".
func (s Service) Key() string { return s.Protocol + " " + endpoint(s.Address, s.Port.String()) }

// Backend is one real server of a service with its counters since the start.
type Backend struct {
	Address string `json:"address"`
	Port    Port   `json:"port"` // 0: the client's destination port
	Weight  int    `json:"weight"`
	// ConfiguredWeight is the weight in the file; differs after drain or weight.
	ConfiguredWeight int     `json:"configured_weight"`
	Mode             string  `json:"mode"`
	State            string  `json:"state"`         // up, down or drain
	StateName        string  `json:"state_name"`    // StateName of it; the server sets it
	StateSinceS      float64 `json:"state_since_s"` // seconds since it entered the state
	// LastError is why the last health check failed; "": it succeeded, or there was none.
	LastError string `json:"last_error,omitempty"`
	Reason    string `json:"reason,omitempty"` // why it is in the state
	// Protected is true if the backend is down but takes new connections: too few would remain.
	Protected bool `json:"protected,omitempty"`
	// SlowStart is the current portion of its weight during slow start, below 1; 0: all.
	SlowStart float64 `json:"slow_start,omitempty"`
	Override  string  `json:"override,omitempty"` // Override.State of its override

	// Note is set in the answer to a change only: what the operator should know. "": nothing.
	Note string `json:"note,omitempty"`

	Active      uint32 `json:"active"`   // connections that are established or being established
	Inactive    uint32 `json:"inactive"` // all others in the table
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"` // directions as in Service
	Bytes       uint64 `json:"bytes"`
	PacketsOut  uint64 `json:"packets_out"`
	BytesOut    uint64 `json:"bytes_out"`
}

// Endpoint returns the text that identifies a backend within its service: "10.0.0.11:8080",
// "[2001:db8::11]:80".
func (b Backend) Endpoint() string { return endpoint(b.Address, b.Port.String()) }

// Conn is one connection of the table.
type Conn struct {
	Service  string  `json:"service"`
	Protocol string  `json:"protocol"`
	Client   string  `json:"client"`  // address:port
	Virtual  string  `json:"virtual"` // address:port of the client's destination
	Backend  string  `json:"backend"` // address:port
	State    string  `json:"state"`   // IPVS's names: SYN_RECV, ESTABLISHED, FIN_WAIT, UDP, ...
	Mode     string  `json:"mode"`
	ExpiresS float64 `json:"expires_s"`
	// SeenReply reports whether the backend has answered. In tun and dr that is not known: false.
	SeenReply bool `json:"seen_reply"`
	Worker    int  `json:"worker"`
}

// ConnQuery selects connections; an empty field selects all.
type ConnQuery struct {
	Service string // Service.Name
	Client  string // address, or address:port
	Backend string // address, or address:port
	State   string // Conn.State
	Limit   int    // at most so many; 0: no limit
}

// Stats is a snapshot of the daemon's counters, which go on after it was killed if something holds
// its memory. Once no packet is being processed, Rx = Accounted, to the packet.
type Stats struct {
	Version string  `json:"version"`
	UptimeS float64 `json:"uptime_s"`

	Rx        uint64            `json:"rx"`        // packets received from RX rings
	Forwarded uint64            `json:"forwarded"` // packets sent on, either direction
	Replied   uint64            `json:"replied"`   // packets answered by Sluice (RST, ICMP)
	ToKernel  uint64            `json:"to_kernel"` // packets of backends' own, given to the kernel
	Waiting   uint64            `json:"waiting"`   // fragments that wait for their first one
	Drops     map[string]uint64 `json:"drops"`     // by DropReason.Name, zeros included
	// LostInCrash counts packets that a daemon had received and not sent on when it was killed, and
	// those that were discarded because they had waited too long for the next one.
	LostInCrash uint64 `json:"lost_in_crash"`

	// ToKernelFailed counts packets of ToKernel that the kernel did not take.
	ToKernelFailed uint64 `json:"to_kernel_failed"`

	// Originated counts packets that Sluice sent on its own: RST probes, which make silent ends
	// of connections answer that must be reset, and ask whether a RST was genuine; and SYNs of
	// fullnat that a backend refused, sent again. It is not part of the sum.
	Originated uint64 `json:"originated"`

	// Untracked counts packets of Forwarded that went by a hash of the client without a
	// connection.
	Untracked uint64 `json:"untracked"`

	// Displaced counts connections that were removed before their timeouts because the table
	// filled: those in which one side has not taken part, and those that have ended.
	Displaced uint64 `json:"displaced"`

	// Adopted counts connections that were opened by a segment in the middle of them, at the
	// backend that the hash names.
	Adopted uint64 `json:"adopted"`

	// IdleReset counts connections that were reset at both ends because they were idle beyond their
	// timeout.
	IdleReset uint64 `json:"idle_reset"`

	// PortReusedEarly counts fullnat connections from a local port that another connection to the
	// same backend had less than a minute before.
	PortReusedEarly uint64 `json:"port_reused_early"`

	Workers []WorkerStats `json:"workers"`
	Ports   []PortStats   `json:"ports"`
	Frames  FrameStats    `json:"frames"`

	// TablesPublished counts the sets of tables published to the workers: one for each change.
	TablesPublished uint64 `json:"tables_published"`

	Tables TableStats `json:"tables"`
}

// Dropped returns the sum of all drops.
func (s Stats) Dropped() uint64 {
	var n uint64
	for _, count := range s.Drops {
		n += count
	}
	return n
}

// Accounted returns the sum that Rx is once no packet is being processed.
func (s Stats) Accounted() uint64 {
	return s.Forwarded + s.Replied + s.ToKernel + s.Waiting + s.Dropped() + s.LostInCrash
}

// WorkerStats is what one worker did, also in former processes. Ratios are over all that time.
type WorkerStats struct {
	Worker int `json:"worker"`
	CPU    int `json:"cpu"`
	// StuckS is how long the worker has been stuck, in seconds: the rest is what it answered last;
	// 0: it is not.
	StuckS    float64 `json:"stuck_s,omitempty"`
	Rx        uint64  `json:"rx"`
	Forwarded uint64  `json:"forwarded"`
	Replied   uint64  `json:"replied"`
	ToKernel  uint64  `json:"to_kernel"`
	Dropped   uint64  `json:"dropped"`
	// HandOversOut counts frames given to the worker that owns their flow.
	HandOversOut      uint64  `json:"hand_overs_out"`
	HandOversIn       uint64  `json:"hand_overs_in"`
	Loops             uint64  `json:"loops"`
	PacketsPerBatch   float64 `json:"packets_per_batch"` // over batches that were not empty
	SyscallsPerPacket float64 `json:"syscalls_per_packet"`
	// BusyShare is the portion of the time, 0 to 1, spent on frames.
	BusyShare   float64 `json:"busy_share"`
	BusyS       float64 `json:"busy_s"` // seconds spent on frames
	RunS        float64 `json:"run_s"`  // seconds that the worker has run
	StageNs     StageNs `json:"stage_ns"`
	GapNs       GapNs   `json:"gap_ns"`
	FramesFree  uint64  `json:"frames_free"`
	Connections uint64  `json:"connections"`
}

// StageNs is the average time per packet of each part of the worker's loop, in nanoseconds.
type StageNs struct {
	Receive  float64 `json:"receive"`
	Process  float64 `json:"process"`
	Transmit float64 `json:"transmit"` // including the system calls that send
}

// GapNs is how long packets wait because the worker is busy or was not scheduled: the time from the
// start of one iteration of its loop to the start of the next, in nanoseconds, without sleep.
type GapNs struct {
	P50  uint64 `json:"p50"`
	P99  uint64 `json:"p99"`
	P999 uint64 `json:"p99_9"`
	Max  uint64 `json:"max"`
	Sum  uint64 `json:"sum"`

	// Counts[i] is how many gaps were shorter than GapBounds[i] and not shorter than the bound
	// before; the last element counts all longer gaps.
	Counts []uint64 `json:"counts,omitempty"`
}

// GapBounds are the bounds of GapNs.Counts in nanoseconds: powers of four, from a microsecond to
// four seconds.
var GapBounds = []uint64{1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30, 1 << 32}

// I/O modes of a port, from best to worst.
const (
	IOZeroCopy = "zerocopy" // driver mode, the NIC writes into our frames
	IOCopy     = "copy"     // driver mode, the kernel copies
	IOGeneric  = "generic"  // no XDP support in the driver: the kernel creates an skb first
)

// PortStats is one network port.
type PortStats struct {
	Name string `json:"name"`
	// IO is zerocopy, copy or generic: the mode in use, not the configured one.
	IO     string       `json:"io"`
	Up     bool         `json:"up"`
	MTU    int          `json:"mtu"`
	Queues []QueueStats `json:"queues"`
	// XDP says what became of the frames that the port received.
	XDP XDPStats `json:"xdp"`
}

// XDPStats is what the XDP program of a port counted, each frame once. Under a holder (systemd,
// sluice keep) it counts on when the daemon is killed, and while none runs.
type XDPStats struct {
	Passed     uint64 `json:"passed"`     // to the kernel
	Redirected uint64 `json:"redirected"` // to the queue's AF_XDP socket
	Detoured   uint64 `json:"detoured"`   // to the prober: answers to checks of tun and dr
	NoSocket   uint64 `json:"no_socket"`  // dropped: for a service, on a queue that is not open
	// NoWorker counts frames for a service that were dropped because the queue's worker had not run
	// for 300 ms.
	NoWorker uint64 `json:"no_worker"`
}

// QueueStats is one AF_XDP socket. The kernel's fields are its XDP_STATISTICS (struct
// xdp_statistics).
type QueueStats struct {
	Queue  int    `json:"queue"`
	Worker int    `json:"worker"`
	Rx     uint64 `json:"rx"`
	Tx     uint64 `json:"tx"`

	// KernelRxDropped counts frames dropped for reasons other than those below.
	KernelRxDropped  uint64 `json:"kernel_rx_dropped"`
	KernelRxInvalid  uint64 `json:"kernel_rx_invalid_descs"`
	KernelTxInvalid  uint64 `json:"kernel_tx_invalid_descs"`
	KernelRxRingFull uint64 `json:"kernel_rx_ring_full"` // the worker was too slow
	// KernelFillRingEmpty counts how often no free frame was available.
	KernelFillRingEmpty uint64 `json:"kernel_rx_fill_ring_empty_descs"`
	KernelTxRingEmpty   uint64 `json:"kernel_tx_ring_empty_descs"`
	TxRingFull          uint64 `json:"tx_ring_full"` // frames dropped as tx_full on this queue
	Wakeups             uint64 `json:"wakeups"`      // system calls made for this queue
}

// FrameStats is the number of frames of the UMEM by owner: Total is always the sum of all others.
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

// ReloadOptions are the options of Reload.
type ReloadOptions struct {
	// Force loads the file even if it removes more than half of the active configuration, or looks
	// truncated.
	Force bool
}

// ReloadResult is what a reload changed.
type ReloadResult struct {
	Changes  []string `json:"changes"`            // one line each; empty: nothing
	Warnings []string `json:"warnings,omitempty"` // changes in the file that need a restart
}

// Port is the port or ports of a service or a backend. In JSON it is a number for a single port,
// else "8000-8099" or "any".
type Port service.Ports

// SinglePort returns the Port for one number.
func SinglePort(port uint16) Port { return Port{First: port, Last: port} }

// String returns "80", "8000-8099" or "any", and "0" for a backend that uses the client's port.
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
		return fmt.Errorf("port %s must be a number from 0 to 65535 or a string", data)
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

// DropReason is one reason for dropping a packet: a key of Stats.Drops and its meaning.
type DropReason struct{ Name, Text string }

// DropReasons returns all reasons, in the order in which a packet can meet them.
func DropReasons() []DropReason {
	var all []DropReason
	for r := counter.None + 1; int(r) < counter.Count; r++ {
		all = append(all, DropReason{r.String(), r.Text()})
	}
	return all
}
