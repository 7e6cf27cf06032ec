package route

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
)

// Config describes what to follow.
type Config struct {
	Ports  []string      // interface names, at most 256; a port's number is its index
	Relist time.Duration // interval of complete readings; 0: 30 s
	Probe  time.Duration // interval of checks of kept neighbours; 0: 1 s
	Log    *slog.Logger  // nil: no log

	receiveBuffer int // bytes of notifications that the kernel may queue; 0: 8 MiB
}

// Follower follows the kernel from Start to Close. Any goroutine may call its methods, but not the
// packet path: they take locks.
type Follower struct {
	log     *slog.Logger
	relist  time.Duration
	probe   time.Duration
	socket  *nl.NetlinkSocket // receives notifications
	changed chan struct{}
	newest  atomic.Pointer[Snapshot]
	dirty   atomic.Uint32 // what must be read again
	wake    chan struct{} // something is dirty, pending or requested
	done    chan struct{}
	ended   sync.WaitGroup

	// The fields below belong to the goroutine of follow.
	kernel     kernel
	asked      *limiter[nexthop.Hop]
	complaints *limiter[string] // error texts
	neighbours []netip.Addr     // copy of requested
	gateways   []nexthop.Hop

	resolutions resolutions // of neighbours

	mu        sync.Mutex
	resolves  *limiter[netip.Addr]
	pending   []netip.Addr // for Resolve
	requested []netip.Addr // by SetNeighbours
}

// Bits of dirty.
const (
	dirtyNeighbours = 1 << iota
	dirtyAll
)

// Limits on requests to the kernel. Its neighbour table holds 1024 entries per family by default
// (gc_thresh3), and our requests must not push out other entries.
const (
	maxResolves = 64   // addresses that Resolve accepts per second
	maxAsks     = 1024 // neighbours asked for per second, by Resolve or not
	maxGateways = 256  // gateways that are kept resolved without being in the list of SetNeighbours
)

// Limits on the pause between two readings. Within them it is four times the duration of the last
// reading.
const (
	minPause = 10 * time.Millisecond
	maxPause = 2 * time.Second
)

// Start opens the sockets in the network namespace of the calling thread, reads everything once and
// begins to follow. A Snapshot exists when it returns. Ports need not exist yet.
func Start(c Config) (*Follower, error) {
	if len(c.Ports) > 256 {
		return nil, fmt.Errorf("route: %d ports; allowed: at most 256", len(c.Ports))
	}
	f := &Follower{
		log:        c.Log,
		relist:     orDefault(c.Relist, 30*time.Second),
		probe:      orDefault(c.Probe, time.Second),
		asked:      newLimiter[nexthop.Hop](maxAsks),
		complaints: newLimiter[string](16),
		resolves:   newLimiter[netip.Addr](maxResolves),
		changed:    make(chan struct{}, 1),
		wake:       make(chan struct{}, 1),
		done:       make(chan struct{}),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if err := f.open(orDefault(c.receiveBuffer, 8<<20)); err != nil {
		return nil, err
	}
	f.kernel.names = c.Ports
	if _, err := f.kernel.readAll(); err != nil {
		f.socket.Close()
		f.kernel.handle.Close()
		return nil, fmt.Errorf("route: %w", err)
	}
	f.publish()
	f.ended.Add(2)
	go f.listen()
	go f.follow()
	return f, nil
}

// open subscribes before anything is read, so that no change is missed in between.
func (f *Follower) open(receiveBuffer int) (err error) {
	f.socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_NEXTHOP,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("route: subscribe to netlink notifications: %w", err)
	}
	// A size beyond net.core.rmem_max needs CAP_NET_ADMIN. A smaller buffer only means more
	// complete readings.
	if f.socket.SetReceiveBufferSize(receiveBuffer, true) != nil {
		_ = f.socket.SetReceiveBufferSize(receiveBuffer, false)
	}
	f.kernel.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		f.socket.Close()
		return fmt.Errorf("route: open netlink socket: %w", err)
	}
	return nil
}

// Close stops following; call it once. Afterwards Snapshot returns the last Snapshot and the other
// methods do nothing.
func (f *Follower) Close() {
	close(f.done)
	f.socket.Close()
	f.ended.Wait()
	f.kernel.handle.Close()
}

// Snapshot returns the newest snapshot; it is never nil.
func (f *Follower) Snapshot() *Snapshot { return f.newest.Load() }

// Changed receives a value after Snapshot has changed. Several changes may be one value: read
// Snapshot after receiving. It is meant for one receiver.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

// listen turns notifications into dirty bits until the socket is closed.
func (f *Follower) listen() {
	defer f.ended.Done()
	for {
		messages, _, err := f.socket.Receive()
		select {
		case <-f.done:
			return
		default:
		}
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.log.Debug("netlink notifications were lost; reading everything again")
			f.markDirty(dirtyAll)
		case errors.Is(err, unix.EINTR):
		case err != nil:
			f.log.Warn("netlink notifications cannot be read", "error", err)
			f.markDirty(dirtyAll)
			f.sleep(time.Second)
		}
		for _, m := range messages {
			f.markDirty(dirtyAfter(m))
		}
	}
}

// dirtyAfter returns what must be read again after a notification. Bridges notify learned MAC
// addresses as neighbours too (struct ndmsg, where the first byte is the family); they are ignored.
func dirtyAfter(m syscall.NetlinkMessage) uint32 {
	if m.Header.Type != unix.RTM_NEWNEIGH && m.Header.Type != unix.RTM_DELNEIGH {
		return dirtyAll
	}
	if len(m.Data) != 0 && m.Data[0] == unix.AF_BRIDGE {
		return 0
	}
	return dirtyNeighbours
}

// markDirty records that something must be read again.
func (f *Follower) markDirty(what uint32) {
	if what != 0 {
		f.dirty.Or(what)
		f.wakeUp()
	}
}

// wakeUp makes the goroutine of follow check for work.
func (f *Follower) wakeUp() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// follow does the work of the package until Close.
func (f *Follower) follow() {
	defer f.ended.Done()
	relist, probe := time.NewTicker(f.relist), time.NewTicker(f.probe)
	defer relist.Stop()
	defer probe.Stop()
	for {
		counts := false
		select {
		case <-f.done:
			return
		case <-f.wake:
		case <-relist.C:
			f.dirty.Or(dirtyAll)
		case <-probe.C:
			counts = true
			f.dirty.Or(dirtyNeighbours)
		}
		start := time.Now()
		f.read()
		f.followUnreachable(counts)
		f.askPending()
		f.askNeighbours()
		f.sleep(min(maxPause, max(minPause, 4*time.Since(start))))
	}
}

// read updates the lists and publishes them if they differ.
func (f *Follower) read() {
	dirty := f.dirty.Swap(0)
	var changed bool
	var err error
	switch {
	case dirty&dirtyAll != 0:
		changed, err = f.kernel.readAll()
	case dirty != 0:
		changed, err = f.kernel.readNeighbours()
	}
	if err != nil {
		f.log.Warn("the kernel's routes cannot be read; trying again", "error", err)
		f.sleep(time.Second)
		f.markDirty(dirtyAll)
		return
	}
	if changed {
		f.publish()
	}
}

// publish makes the lists the newest snapshot.
func (f *Follower) publish() {
	f.gateways = f.kernel.gateways(maxGateways)
	s := f.kernel.snapshot()
	s.Asked = f.askedFor
	f.resolutions.look(f.neighbours, s.Table, f.kernel.states, f.kernel.names, false, time.Now())
	s.Unreachable = f.resolutions.unreachable
	f.store(s)
}

// store makes s the newest snapshot.
func (f *Follower) store(s *Snapshot) {
	f.newest.Store(s)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// sleep waits for d or until Close.
func (f *Follower) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.done:
	}
}

// neighbourOf returns the neighbour that packets to addr need.
func (f *Follower) neighbourOf(addr netip.Addr) (nexthop.Hop, bool) {
	return f.newest.Load().Table.NextHop(packet.AddrFrom(addr))
}

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}
