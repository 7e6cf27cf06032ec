package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"sluice/conf"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/xsk"
)

// kernel is the Platform that carries real traffic: AF_XDP sockets behind the steering program, and the
// kernel's routes and neighbours. It lives in the network namespace that it was made in.
type kernel struct {
	log      *slog.Logger
	follower *route.Follower
	publish  func(*route.Snapshot)
	program  *steer.Program
	umem     *xsk.UMEM
	ports    []*kernelPort
	memory   []*xsk.UMEM // behind Memory

	stop  chan struct{}
	ended sync.WaitGroup
}

// kernelPort is a port with its attachment and sockets.
type kernelPort struct {
	name    string
	steer   *steer.Port
	sockets map[int]*xsk.Socket // by queue
}

func newKernel(log *slog.Logger) *kernel {
	return &kernel{log: log, stop: make(chan struct{})}
}

// Watch implements Platform.
func (k *kernel) Watch(ports []conf.Port, publish func(*route.Snapshot)) error {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = p.Name
	}
	var err error
	if k.follower, err = route.Start(route.Config{Ports: names, Log: k.log}); err != nil {
		return err
	}
	publish(k.follower.Snapshot())
	k.ended.Add(1)
	go func() {
		defer k.ended.Done()
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

// Ring sizes per queue. A queue can hold so many frames at once in each place, so that is how many it
// gets: posted for reception, received and waiting, on their way out.
const (
	fillSize       = 2048
	rxSize         = 2048
	txSize         = 2048
	framesPerQueue = fillSize + rxSize + txSize
)

// Open implements Platform.
func (k *kernel) Open(ports []conf.Port, workers int) (*Hardware, error) {
	snapshot := k.follower.Snapshot()
	queues := make([][]int, len(ports))
	perWorker := 0
	for i, p := range ports {
		if !snapshot.Ports[i].Exists {
			return nil, fmt.Errorf("port %q: there is no such interface in this network namespace: `ip link` lists those there are", p.Name)
		}
		var err error
		if queues[i], err = queuesOf(p); err != nil {
			return nil, err
		}
		perWorker += (len(queues[i]) + workers - 1) / workers * framesPerQueue
	}
	var err error
	if k.umem, err = xsk.NewUMEM(perWorker * workers); err != nil {
		return nil, err
	}
	if !k.umem.HugePages() {
		k.log.Info("frames are on plain pages: huge pages save TLB misses",
			"need", fmt.Sprintf("vm.nr_hugepages=%d", (len(k.umem.Mem())+2<<20-1)/(2<<20)))
	}
	if k.program, err = steer.Load(); err != nil {
		return nil, err
	}
	hw := &Hardware{UMEM: k.umem.Mem()}
	for i, p := range ports {
		port, err := k.openPort(p, snapshot.Ports[i].Ifindex, queues[i])
		if err != nil {
			return nil, err
		}
		hw.Ports = append(hw.Ports, *port)
	}
	return hw, nil
}

// queuesOf says which of its queues a port gives us.
func queuesOf(p conf.Port) ([]int, error) {
	rx, tx, err := xsk.Queues(p.Name)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", p.Name, err)
	}
	if p.Queues != nil {
		return p.Queues, nil
	}
	if tx < rx {
		return nil, fmt.Errorf("port %q has %d RX queues but %d TX queues: set `queues` to those below %d, or even them out with `ethtool -L`",
			p.Name, rx, tx, tx)
	}
	all := make([]int, rx)
	for i := range all {
		all[i] = i
	}
	return all, nil
}

// attempt is one way to attach a port, named as the configuration names it.
type attempt struct {
	io    conf.IO
	steer steer.Mode
	xsk   xsk.Mode
}

// attempts are the ways from best to worst; "auto" goes through them all.
var attempts = []attempt{
	{conf.IOZeroCopy, steer.Native, xsk.ZeroCopy},
	{conf.IOCopy, steer.Native, xsk.Copy},
	{conf.IOGeneric, steer.Generic, xsk.Copy},
}

// openPort attaches the port in the best way that it permits and the configuration allows.
func (k *kernel) openPort(p conf.Port, ifindex int, queues []int) (*HardwarePort, error) {
	var errs []error
	for _, a := range attempts {
		if p.IO != conf.IOAuto && p.IO != a.io {
			continue
		}
		hw, err := k.tryPort(p.Name, ifindex, queues, a)
		if err == nil {
			k.log.Info("port is open", "port", p.Name, "af_xdp", hw.IO, "queues", len(queues))
			return hw, nil
		}
		errs = append(errs, fmt.Errorf("io %s: %w", a.io, err))
		if !errors.Is(err, steer.ErrNoNative) && !errors.Is(err, xsk.ErrModeUnsupported) {
			break
		}
		k.log.Debug("port does not open this way", "port", p.Name, "io", a.io, "err", err)
	}
	return nil, fmt.Errorf("port %q: %w", p.Name, errors.Join(errs...))
}

// tryPort attaches the port in one way, or leaves nothing behind.
func (k *kernel) tryPort(name string, ifindex int, queues []int, a attempt) (hw *HardwarePort, err error) {
	port := &kernelPort{name: name, sockets: make(map[int]*xsk.Socket)}
	defer func() {
		if err != nil {
			err = errors.Join(err, port.close())
		}
	}()
	if port.steer, err = k.program.Attach(ifindex, a.steer); err != nil {
		return nil, err
	}
	hw = &HardwarePort{Name: name, IO: string(a.io)}
	for _, q := range queues {
		s, err := xsk.Open(xsk.Config{
			Ifindex: ifindex, Ifname: name, Queue: q, UMEM: k.umem, Mode: a.xsk, NeedWakeup: true,
			RX: rxSize, TX: txSize, Fill: fillSize, Completion: txSize,
		})
		if err != nil {
			return nil, err
		}
		port.sockets[q] = s
		if err := port.steer.Register(q, s.FD()); err != nil {
			return nil, err
		}
		hw.Queues = append(hw.Queues, HardwareQueue{Queue: s, Number: q})
	}
	k.ports = append(k.ports, port)
	return hw, nil
}

// close detaches first: afterwards nothing arrives for sockets that are about to go.
func (p *kernelPort) close() error {
	var err error
	if p.steer != nil {
		err = p.steer.Close()
	}
	for _, s := range p.sockets {
		_, e := s.Close()
		err = errors.Join(err, e)
	}
	return err
}

// Memory implements Platform.
func (k *kernel) Memory(bytes int) ([]byte, error) {
	m, err := xsk.NewUMEM((bytes + xsk.FrameSize - 1) / xsk.FrameSize)
	if err != nil {
		return nil, err
	}
	k.memory = append(k.memory, m)
	return m.Mem(), nil
}

// Steer implements Platform.
func (k *kernel) Steer(r steer.Rules) error { return k.program.Set(r) }

// Source implements Platform.
func (k *kernel) Source(dst netip.Addr) netip.Addr {
	src, err := k.follower.Source(dst)
	if err != nil {
		k.log.Warn("tunnel has no source address", "backend", dst, "err", err)
	}
	return src
}

// Want implements Platform.
func (k *kernel) Want(a netip.Addr) { k.follower.Resolve(a) }

// Keep implements Platform.
func (k *kernel) Keep(addrs []netip.Addr) { k.follower.Keep(addrs) }

// Stats implements Platform. It is called on the queue's worker.
func (k *kernel) Stats(port, queue int) QueueStats {
	s := k.ports[port].sockets[queue]
	owned, counters := s.Owned(), s.Counters()
	out := QueueStats{
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

// Close implements Platform.
func (k *kernel) Close() error {
	close(k.stop)
	if k.follower != nil {
		k.ended.Wait()
		k.follower.Close()
	}
	var err error
	for _, p := range k.ports {
		err = errors.Join(err, p.close())
	}
	if k.program != nil {
		err = errors.Join(err, k.program.Close())
	}
	for _, m := range append(k.memory, k.umem) {
		if m != nil {
			err = errors.Join(err, m.Close())
		}
	}
	return err
}
