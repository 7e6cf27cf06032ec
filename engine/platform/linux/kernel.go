// Package linux implements package platform with the Linux kernel: AF_XDP sockets behind the
// steering program (packages xsk and steer), links, routes and neighbours over netlink (package
// route), CPU affinity and huge pages (package cpu).
//
// A Kernel owns the UMEM, the memory of the connection tables, the sockets and the attachments to
// the interfaces, and frees them in Close. It runs one goroutine that follows the kernel's tables,
// and one per memory area while that is being filled. The package must not import worker, tables or
// engine.
package linux

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/health/truepath"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tokernel"
	"sluice/engine/xsk"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// Kernel is the platform.Platform that carries real traffic: AF_XDP sockets behind the steering
// program, and the kernel's routes and neighbours. It lives in the network namespace that it was
// made in.
type Kernel struct {
	log       *slog.Logger
	busyPoll  bool
	onStop    onStop
	holder    steer.Holder // nil: nothing outlives the process
	await     func() error // see After; nil: there is nothing to wait for
	left      atomic.Bool  // this process writes to nothing that outlives it
	kept      kept
	follower  *route.Follower
	program   *steer.Program
	umem      *xsk.UMEM
	former    map[int]formerPort  // by interface: taken over, until the port opens
	inherited *platform.Inherited // see Inherited
	memory    []*xsk.UMEM         // behind Memory
	fillMu    sync.Mutex          // held while memory is filled: one area at a time
	filling   sync.WaitGroup      // while memory is filled

	plainBytes int           // of memory, on plain pages
	memoryLeft func() uint64 // bytes that were available before memory was allocated

	// By port. OpenPort replaces an element while no worker is connected to the port. At other
	// times only workers read it, and Outcomes.
	ports    []*port
	outcomes outcomes

	cores   []int  // the workers' CPUs
	restore func() // undoes cpu.QuietRuntime; nil before it

	stop    chan struct{} // closed by Close
	running sync.WaitGroup
}

// port is a port with its attachment and sockets.
type port struct {
	conf    conf.Port
	queues  []int
	ifindex int
	io      string
	steer   *steer.Port
	sockets map[int]*xsk.Socket // by queue
	holder  steer.Holder        // of copies; nil: there is none
	held    []string            // names of the sockets at the holder
	restore []func() error      // restore the interface's settings that were changed
	rss     *flow.RSS           // nil: unknown
}

// New returns a Kernel that holds nothing yet. With busyPoll its sockets poll the driver. holder
// holds what is to outlive the process; it may be nil.
func New(log *slog.Logger, busyPoll bool, holder steer.Holder) *Kernel {
	memoryLeft := sync.OnceValue(func() uint64 { return xsk.LeftMemory(os.DirFS("/")) })
	return &Kernel{log: log, busyPoll: busyPoll, holder: holder, stop: make(chan struct{}), memoryLeft: memoryLeft}
}

// After makes Open call await before it touches anything that a former process may still use. It is
// called before Open.
func (k *Kernel) After(await func() error) { k.await, k.kept.early = await, make(map[string]*xsk.UMEM) }

// Leave implements platform.Leaver.
func (k *Kernel) Leave(give func() error) error {
	k.left.Store(true)
	err := k.umem.Release()
	if err == nil {
		err = give()
	}
	if err != nil {
		k.left.Store(false)
		err = errors.Join(err, k.umem.Regain())
	}
	return err
}

var _ platform.Leaver = (*Kernel)(nil)

// Cores implements platform.Platform.
func (k *Kernel) Cores(configured []int) (cores []int, err error) {
	k.cores, err = cpu.Cores(configured)
	return k.cores, err
}

// Follow implements platform.Platform.
func (k *Kernel) Follow(ports []conf.Port, publish func(*route.Snapshot)) error {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.Name
	}
	var err error
	if k.follower, err = route.Start(route.Config{Ports: names, Log: k.log}); err != nil {
		return err
	}
	publish(k.follower.Snapshot())
	k.running.Add(1)
	go func() {
		defer k.running.Done()
		for {
			select {
			case <-k.follower.Changed():
				publish(k.follower.Snapshot())
			case <-k.stop:
				return
			}
		}
	}()
	return nil
}

// Ring sizes per queue. A queue gets as many frames as its rings can hold: posted for reception,
// received, and waiting for transmission.
const (
	fillSize       = 2048
	rxSize         = 2048
	txSize         = 2048
	framesPerQueue = fillSize + rxSize + txSize
	// framesPerRelay is the frames of a worker without a queue, which only make RST probes.
	framesPerRelay = 256
)

// BytesPerQueue is the size of the memory for the frames of one queue.
const BytesPerQueue = framesPerQueue * platform.FrameSize

// Open implements platform.Platform.
func (k *Kernel) Open(ports []conf.Port, workers int) (*platform.Hardware, error) {
	k.restore = cpu.QuietRuntime(k.cores, k.log)
	snapshot := k.follower.Snapshot()
	wanted := make([]*port, len(ports))
	queues, most := 0, 0
	for i, p := range ports {
		if !snapshot.Ports[i].Exists {
			return nil, fmt.Errorf("port %q: no such interface in this network namespace: `ip link` lists the interfaces", p.Name)
		}
		numbers, err := queuesOf(p)
		if err != nil {
			return nil, err
		}
		wanted[i] = &port{conf: p, queues: numbers, ifindex: snapshot.Ports[i].Ifindex}
		queues, most = queues+len(numbers), max(most, len(numbers))
	}
	var err error
	if k.program, err = steer.Load(); err != nil {
		return nil, err
	}
	if k.await != nil {
		k.filling.Wait()
		if err := k.await(); err != nil {
			return nil, err
		}
	}
	// at least one frame for each worker, also without ports
	if err := k.openFrames(max(workers, queues*framesPerQueue+max(0, workers-most)*framesPerRelay), wanted); err != nil {
		return nil, err
	}
	if !k.umem.HugePages() {
		k.log.Info("frames are on plain pages: huge pages save TLB misses",
			"need", fmt.Sprintf("vm.nr_hugepages=%d", (len(k.umem.Mem())+2<<20-1)/(2<<20)))
	}
	if err := k.inheritLinks(); err != nil {
		return nil, err
	}
	if k.holder != nil {
		k.findFormer()
	}
	hw := &platform.Hardware{UMEM: k.umem.Mem()}
	for _, p := range wanted {
		if err := k.open(p); err != nil {
			return nil, err
		}
		k.outcomes.use(len(k.ports), p.steer)
		k.ports = append(k.ports, p)
		hw.Ports = append(hw.Ports, *p.hardware())
	}
	hw.Held = k.umem.Held()
	if err := k.program.EndFormer(); err != nil {
		k.log.Warn("an XDP program of the former process is not detached from an interface that is no port any more", "err", err)
	}
	return hw, nil
}

// OpenPort implements platform.Platform.
func (k *Kernel) OpenPort(i int) (*platform.HardwarePort, error) {
	now := k.follower.Snapshot().Ports[i]
	if !now.Exists {
		return nil, fmt.Errorf("port %q: the interface is gone again", now.Name)
	}
	opened := &port{conf: k.ports[i].conf, queues: k.ports[i].queues, ifindex: now.Ifindex}
	if err := k.open(opened); err != nil {
		return nil, err
	}
	k.outcomes.use(i, opened.steer)
	k.ports[i] = opened
	return opened.hardware(), nil
}

// ClosePort implements platform.Platform.
func (k *Kernel) ClosePort(i int) ([]uint64, error) {
	k.outcomes.use(i, nil)
	return k.ports[i].close()
}

// queuesOf returns the numbers of the port's queues that are to be opened.
func queuesOf(p conf.Port) ([]int, error) {
	rx, tx, err := xsk.Queues(p.Name)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", p.Name, err)
	}
	if p.Queues != nil {
		return p.Queues, nil
	}
	if tx < rx {
		return nil, fmt.Errorf("port %q has %d RX queues but %d TX queues: set `queues` to those below %d, or make them equal with `ethtool -L`",
			p.Name, rx, tx, tx)
	}
	all := make([]int, rx)
	for i := range all {
		all[i] = i
	}
	return all, nil
}

// attempt is one way to attach a port.
type attempt struct {
	io    conf.IO
	steer steer.Mode
	xsk   xsk.Mode
}

// attempts are all ways, best first. "auto" tries them in this order.
var attempts = []attempt{
	{conf.IOZeroCopy, steer.Native, xsk.ZeroCopy},
	{conf.IOCopy, steer.Native, xsk.Copy},
	{conf.IOGeneric, steer.Generic, xsk.Copy},
}

func attemptOf(io conf.IO) (attempt, bool) {
	i := slices.IndexFunc(attempts, func(a attempt) bool { return a.io == io })
	return attempts[max(0, i)], i >= 0
}

// open attaches the port in the best way that the driver supports and the configuration allows.
func (k *Kernel) open(p *port) error {
	tags, err := keepTags(p.conf.Name)
	if err != nil {
		return fmt.Errorf("port %q: %w", p.conf.Name, err)
	}
	if tags != nil {
		k.log.Info("the card no longer removes VLAN tags, until the port is closed", "port", p.conf.Name)
	}
	var errs []error
	for _, a := range attempts {
		if p.conf.IO != conf.IOAuto && p.conf.IO != a.io {
			continue
		}
		if former, ok := k.former[p.ifindex]; ok && former.io != a.io {
			continue
		}
		err := k.try(p, a)
		if err == nil {
			if tags != nil {
				p.restore = append(p.restore, tags)
			}
			var rssErr error
			if p.rss, rssErr = xsk.RSS(p.conf.Name); rssErr != nil {
				k.log.Debug("fullnat, tun and dr hand packets over between workers", "port", p.conf.Name, "why", rssErr)
			}
			k.log.Info("port is open", "event", "port_open", "port", p.conf.Name, "af_xdp", p.io, "queues", len(p.queues), "rss", p.rss != nil)
			return nil
		}
		errs = append(errs, fmt.Errorf("io %s: %w", a.io, err))
		if !errors.Is(err, steer.ErrNoNative) && !errors.Is(err, xsk.ErrModeUnsupported) {
			break
		}
		k.log.Debug("port does not open in this mode", "port", p.conf.Name, "io", a.io, "err", err)
	}
	if tags != nil {
		errs = append(errs, tags())
	}
	return fmt.Errorf("port %q: %w", p.conf.Name, errors.Join(errs...))
}

// try attaches the port in one way. On error nothing stays attached.
func (k *Kernel) try(p *port, a attempt) (err error) {
	former := k.former[p.ifindex]
	delete(k.former, p.ifindex)
	p.holder, p.held, p.sockets = k.holder, former.names, make(map[int]*xsk.Socket)
	maps.Copy(p.sockets, former.sockets)
	defer func() {
		if err != nil {
			_, e := p.close()
			err = errors.Join(err, e)
		}
	}()
	attach := k.program.Attach
	if former.sockets != nil {
		attach = k.program.AttachLater
	}
	if p.steer, err = attach(p.ifindex, a.steer); err != nil {
		return err
	}
	for _, q := range p.queues {
		if p.sockets[q] == nil { // not taken over
			if p.sockets[q], err = xsk.Open(k.socketConfig(p, q, a.xsk)); err != nil {
				delete(p.sockets, q)
				return err
			}
		}
		if err := p.steer.Register(q, p.sockets[q].FD()); err != nil {
			return err
		}
	}
	if err := k.program.Hold(p.steer); err != nil {
		k.log.Warn(err.Error())
	}
	p.io = string(a.io)
	if err := k.holdSockets(p); err != nil {
		k.log.Warn("sockets will not outlive this process", "event", "keep_failed", "port", p.conf.Name, "error", err)
	}
	if k.busyPoll {
		// busy polling works without the settings, but less well
		restore, napiErr := deferInterrupts(p.conf.Name)
		p.restore = append(p.restore, restore)
		if napiErr != nil {
			k.log.Warn("busy polling without the interface's settings for it", "err", napiErr)
		}
	}
	return nil
}

// socketConfig returns what the socket of a port's queue is to be.
func (k *Kernel) socketConfig(p *port, queue int, mode xsk.Mode) xsk.Config {
	return xsk.Config{
		Ifindex: p.ifindex, Ifname: p.conf.Name, Queue: queue, UMEM: k.umem, Mode: mode, NeedWakeup: true,
		RX: rxSize, TX: txSize, Fill: fillSize, Completion: txSize,
		BusyPoll: k.busyPolling(),
	}
}

// busyPolling returns how a socket polls: for 20 microseconds and 64 packets at a time, or not at
// all.
func (k *Kernel) busyPolling() xsk.BusyPoll {
	if !k.busyPoll {
		return xsk.BusyPoll{}
	}
	return xsk.BusyPoll{Usec: 20, Budget: 64}
}

// hardware returns the port as the engine sees it.
func (p *port) hardware() *platform.HardwarePort {
	hw := &platform.HardwarePort{Name: p.conf.Name, Ifindex: p.ifindex, IO: p.io, RSS: p.rss}
	for _, q := range p.queues {
		s := p.sockets[q]
		rx, tx := s.Indices()
		hw.Queues = append(hw.Queues, platform.HardwareQueue{
			Queue: s, Number: q, Sending: s.Sending(), RxIndex: rx, TxIndex: tx, GoesOn: s.Inherited(), Heartbeat: p.steer.Heartbeat(q),
		})
	}
	return hw
}

// close detaches the port, so that no more frames arrive, and then closes its sockets. It returns
// the frames that the sockets had; a second call returns none.
func (p *port) close() (frames []uint64, err error) {
	if p.steer != nil {
		err = p.steer.Close()
		p.steer = nil
	}
	err = errors.Join(err, p.forgetSockets())
	for _, s := range p.sockets {
		had, e := s.Close()
		frames, err = append(frames, had...), errors.Join(err, e)
	}
	for _, restore := range p.restore {
		err = errors.Join(err, restore())
	}
	p.restore = nil
	return frames, err
}

// Memory implements platform.Platform. It returns before the memory is filled, which takes seconds,
// so that the daemon starts without a delay.
func (k *Kernel) Memory(name string, bytes, core int) ([]byte, error) {
	left := k.memoryLeft()
	m, err := k.newMemory(name, (bytes+xsk.FrameSize-1)/xsk.FrameSize, cpu.NodeOf(os.DirFS("/"), core))
	if err != nil {
		return nil, err
	}
	k.memory = append(k.memory, m)
	if m.HugePages() { // these are reserved and not part of memoryLeft
		return m.Mem(), nil
	}
	if short := uint64(k.plainBytes)+uint64(bytes) > left; short && len(k.kept.former) > 0 {
		k.log.Warn("no memory for connection tables beside those of the former process: its connections are lost", "event", "takeover_failed")
		if err := k.EndFormer(); err != nil {
			return nil, err
		}
	} else if short {
		return nil, fmt.Errorf("%d MiB of memory are needed, beside %d MiB for other workers' tables, but only %d MiB are available", bytes>>20, k.plainBytes>>20, left>>20)
	}
	k.plainBytes += bytes
	k.filling.Go(func() { k.fill(m) })
	return m.Mem(), nil
}

// fill has the kernel allocate the pages of m.
func (k *Kernel) fill(m *xsk.UMEM) {
	k.fillMu.Lock()
	defer k.fillMu.Unlock()
	if err := m.Fill(k.stop); err != nil {
		k.log.Warn("memory for connections is not allocated in advance: the first connections may be delayed", "err", err)
	}
}

// Steer implements platform.Platform.
func (k *Kernel) Steer(r steer.Rules) error { return k.program.Set(r) }

// Restore implements platform.Platform.
func (k *Kernel) Restore(port int) (lost string, err error) { return k.ports[port].steer.Restore() }

// Source implements platform.Platform.
func (k *Kernel) Source(dst netip.Addr) netip.Addr {
	src, err := k.follower.Source(dst)
	if err != nil {
		k.log.Warn("tunnel has no source address", "backend", dst, "err", err)
	}
	return src
}

// LocalPortRange implements platform.Platform. The sysctl applies to IPv6 too.
func (k *Kernel) LocalPortRange() service.Ports {
	var p service.Ports
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &p.First, &p.Last)
	}
	if err != nil {
		return service.Ports{First: 32768, Last: 60999} // the kernel's default
	}
	return p
}

// Resolve implements platform.Platform.
func (k *Kernel) Resolve(a netip.Addr) { k.follower.Resolve(a) }

// SetNeighbours implements platform.Platform.
func (k *Kernel) SetNeighbours(addrs []netip.Addr) { k.follower.SetNeighbours(addrs) }

// Steering implements platform.Platform.
func (k *Kernel) Steering(port int) (platform.Steering, error) {
	p := k.ports[port]
	counters, err := p.steer.Counters()
	if err != nil {
		return platform.Steering{}, err
	}
	rx, _, err := xsk.Queues(p.conf.Name)
	return platform.Steering{Queues: rx, NoSocket: counters.NoSocket, NoWorker: counters.NoWorker}, err
}

// Stats implements platform.Platform. It is called on the queue's worker.
func (k *Kernel) Stats(port, queue int) platform.QueueStats {
	s := k.ports[port].sockets[queue]
	owned, counters := s.Owned(), s.Counters()
	out := platform.QueueStats{
		Fill: uint64(owned.Fill + owned.RxDriver), Rx: uint64(owned.RX),
		Tx: uint64(owned.TX + owned.TxDriver), Completion: uint64(owned.Completion),
		Syscalls: counters.Syscalls,
	}
	if x, err := s.Statistics(); err == nil {
		out.RxDropped, out.RxInvalid, out.TxInvalid = x.RxDropped, x.RxInvalid, x.TxInvalid
		out.RxRingFull, out.FillRingEmpty, out.TxRingEmpty = x.RxRingFull, x.RxFillRingEmpty, x.TxRingEmpty
	}
	return out
}

// Close implements platform.Platform.
func (k *Kernel) Close() error {
	close(k.stop)
	if k.restore != nil {
		k.restore()
	}
	k.running.Wait()
	k.filling.Wait()
	if k.follower != nil {
		k.follower.Close()
	}
	var err error
	for i, p := range k.ports {
		k.outcomes.use(i, nil)
		_, e := p.close()
		err = errors.Join(err, e)
	}
	if k.program != nil {
		err = errors.Join(err, k.program.Close())
	}
	err = errors.Join(err, k.forgetFrames(), k.freeCounters())
	for _, m := range append(k.memory, k.umem) {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
	}
	return err
}

var _ platform.Detourer = (*Kernel)(nil)

// Detour implements platform.Detourer.
func (k *Kernel) Detour(ports service.Ports) (*truepath.Detour, error) {
	d, err := truepath.Open(ports)
	if err != nil {
		return nil, err
	}
	if err := k.program.Detour(d.Ifindex()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

var _ platform.Injector = (*Kernel)(nil)

// Inject implements platform.Injector.
func (k *Kernel) Inject() (platform.Device, error) { return tokernel.OpenDevice() }
