package tx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/bpf"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
)

// live is a sender with an XDP program that makes the frames.
type live struct {
	options Options
	traffic Traffic
	objects bpf.LiveObjects
	before  port.Statistics // of the interface
}

// liveBatch is the number of frames that the kernel makes before it passes them to the interface.
// It is the kernel's default. A veth's ring holds 256, and is emptied between two batches.
const liveBatch = 64

// checkInterval is how often a sender checks whether it has to stop; every checkPort-th time it
// checks the interface, too. Before firstLook frames it does not check whether the interface
// accepts frames.
const (
	checkInterval = time.Millisecond
	checkPort     = 100
	firstLook     = 4 * liveBatch
)

func newLive(t Traffic, o Options) (*live, error) {
	l := &live{options: o, traffic: t}
	if err := l.load(); err != nil {
		l.Close()
		return nil, fmt.Errorf("sending from %s by test-run: %w", o.Port.Name, err)
	}
	return l, nil
}

func (l *live) load() error {
	if err := rlimit.RemoveMemlock(); err != nil { // kernels before 5.11 charge maps to it
		return fmt.Errorf("raising the limit on locked memory: %w", err)
	}
	spec, err := bpf.LoadLive()
	if err != nil {
		return fmt.Errorf("the XDP program in this binary can't be read: %w", err)
	}
	plan, err := l.plan()
	if err != nil {
		return err
	}
	aliases := l.traffic.Model.Aliases()
	spec.Maps[bpf.LiveMapSequences].MaxEntries = l.traffic.Model.Stamped()
	spec.Maps[bpf.LiveMapAliases].MaxEntries = max(uint32(len(aliases)), 1)
	if err := spec.Variables[bpf.LiveVarPlan].Set(plan); err != nil {
		return fmt.Errorf("setting the program's plan: %w", err)
	}
	if err := spec.Variables[bpf.LiveVarState].Set(bpf.LiveState{Random: l.traffic.Model.Seed}); err != nil {
		return fmt.Errorf("setting the program's seed: %w", err)
	}
	if err := spec.LoadAndAssign(&l.objects, nil); err != nil {
		return explain(err)
	}
	for i, c := range aliases {
		if err := l.objects.Aliases.Put(uint32(i), bpf.LiveColumn{Stay: c.Stay, Other: c.Other}); err != nil {
			return fmt.Errorf("writing the table of flows: %w", err)
		}
	}
	l.before, err = l.options.Port.Statistics()
	return err
}

// explain replaces the library's message for EPERM, which names the memory limit: that is never the
// cause from Linux 5.11 on.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return errors.New("XDP needs the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW: run as root")
	}
	return err
}

// plan returns the parameters of the program.
func (l *live) plan() (plan bpf.LivePlan, err error) {
	spec, model := l.traffic.Spec, l.traffic.Model
	t, err := frame.NewTemplate(spec)
	if err != nil {
		return plan, err
	}
	plan = bpf.LivePlan{
		Source: endpoints(spec.Source), Destination: endpoints(spec.Destination),
		Gap: gapOf(l.options.Rate), Limit: l.options.Limit,
		IpSum: sum(t.IP), L4Sum: sum(t.L4),
		SizeCount: uint16(len(spec.Sizes)), Largest: uint16(spec.Largest()),
		Pick: uint32(model.Kind), Flows: model.Stamped(), Concurrent: model.Concurrent, Steps: model.Packets,
		Ipv6: flag(spec.Is6()), Tcp: flag(spec.TCP), Stamped: flag(spec.Stamped()), Stream: spec.Stream,
	}
	words(plan.Ethernet[:], t.Ethernet[:], binary.NativeEndian.Uint16)
	words(plan.Ip[:], t.IP, binary.NativeEndian.Uint32)
	words(plan.L4[:], t.L4, binary.NativeEndian.Uint32)
	for i, size := range spec.Sizes {
		plan.Sizes[i] = uint16(size)
	}
	// The part of the pseudo-header that is the same in each packet.
	const udp, tcp = 17, 6
	protocol := [2]byte{1: udp}
	if spec.TCP {
		protocol[1] = tcp
	}
	plan.L4Sum += sum(protocol[:])
	if spec.Is6() {
		const addressesAt = 8
		plan.L4Sum += sum(t.IP[addressesAt:])
	}
	return plan, nil
}

func endpoints(r flow.Range) (e bpf.LiveEndpoints) {
	b := r.First.As16() // IPv4 in the last four
	words(e.BeAddress[:], b[:], binary.NativeEndian.Uint32)
	e.First = binary.BigEndian.Uint32(b[12:])
	e.Addresses, e.FirstPort, e.Ports = r.Addresses, uint32(r.FirstPort), r.Ports
	return e
}

func flag(set bool) uint8 {
	if set {
		return 1
	}
	return 0
}

// words reads b as words in this machine's byte order, as the program will write them.
func words[T uint16 | uint32](to []T, b []byte, read func([]byte) T) {
	size := 4
	if _, short := any(T(0)).(uint16); short {
		size = 2
	}
	for i := 0; i < len(b)/size; i++ {
		to[i] = read(b[i*size:])
	}
}

// sum adds the 16-bit words of b in this machine's byte order: the ones' complement sum is the same
// in both orders, apart from its own byte order (RFC 1071).
func sum(b []byte) (s uint64) {
	for i := 0; i+1 < len(b); i += 2 {
		s += uint64(binary.NativeEndian.Uint16(b[i:]))
	}
	return s
}

func (l *live) Backend() Backend { return Live }
func (l *live) Close() error     { return l.objects.Close() }

// Counts reads the program's own counters.
func (l *live) Counts() Counts {
	var s bpf.LiveState
	if err := l.objects.State.Get(&s); err != nil {
		return Counts{} // cannot fail: the memory is mapped
	}
	return Counts{Frames: s.Sent, Bytes: s.Bytes, FirstNS: int64(s.First), LastNS: int64(s.Last)}
}

// FlowsSent reads the program's table of sequence numbers in place.
func (l *live) FlowsSent() []uint32 {
	memory, err := l.objects.Sequences.Memory()
	if err != nil {
		return nil
	}
	const wordBytes = 8 // an array's values are padded to this
	sent := make([]uint32, l.traffic.Model.Stamped())
	b := make([]byte, wordBytes*len(sent))
	if _, err := memory.ReadAt(b, 0); err != nil {
		return nil
	}
	for i := range sent {
		sent[i] = binary.NativeEndian.Uint32(b[wordBytes*i:])
	}
	return sent
}

// Send occupies a CPU until it returns.
func (l *live) Send(ctx context.Context) error {
	err := l.options.Port.Affinity.Do(func() error { return l.run(ctx) })
	if err != nil {
		return fmt.Errorf("sending from %s by test-run: %w", l.options.Port.Name, err)
	}
	return nil
}

// run runs the program until watch on another thread ends it by a signal.
func (l *live) run(ctx context.Context) error {
	data := make([]byte, l.traffic.Spec.Largest())
	device := xdpContext{DataEnd: uint32(len(data)), IngressIfindex: uint32(l.options.Port.Index)}
	watched := make(chan error, 1)
	ended := make(chan struct{})
	go func(thread int) { watched <- l.watch(ctx, thread, ended) }(unix.Gettid())
	var err error
	for err == nil && ctx.Err() == nil && !l.reached() && !l.isStopped() {
		err = testRun(l.objects.PktgenLive, data, device, l.repeat(), liveBatch)
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	close(ended)
	watchErr := <-watched
	switch {
	case err == nil && watchErr != nil:
		return watchErr
	case err == nil:
		return l.checkTaken()
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: live frames need kernel 5.18 or later", err)
	}
	return explain(err)
}

// repeat returns the largest number of runs: just those needed if each one sends a frame.
func (l *live) repeat() uint32 {
	if l.options.Limit == 0 || l.options.Rate > 0 {
		return math.MaxInt32
	}
	return uint32(min(l.options.Limit-l.Counts().Frames, math.MaxInt32))
}

func (l *live) reached() bool { return l.options.Limit > 0 && l.Counts().Frames >= l.options.Limit }

func (l *live) isStopped() bool {
	var stopped uint32
	return l.objects.Stopped.Get(&stopped) == nil && stopped != 0
}

// watch waits until the sending thread has to end, stops the program, and then sends the thread
// signals until it has left the kernel: a single signal could arrive just before it enters. The
// signal is the one with which Go's runtime preempts its own threads; its handler accepts spurious
// ones.
func (l *live) watch(ctx context.Context, thread int, ended <-chan struct{}) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	var err error
	for ticks := 1; ctx.Err() == nil && !l.reached() && err == nil; ticks++ {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
		case <-tick.C:
		}
		if ticks%checkPort == 0 {
			err = l.checkTaken()
		}
	}
	if setErr := l.objects.Stopped.Set(uint32(1)); err == nil {
		err = setErr
	}
	for {
		select {
		case <-ended:
			return err
		case <-tick.C:
			_ = unix.Tgkill(unix.Getpid(), thread, unix.SIGURG) // it may be gone
		}
	}
}

// checkTaken returns an error if the interface is down or gone, which the kernel does not report to
// the program, or if it is a veth that accepts no frames at all. An interface that a test-run uses
// cannot be removed before the test-run ends.
func (l *live) checkTaken() error {
	if err := l.options.Port.CheckUp(); err != nil {
		return err
	}
	sent := l.Counts().Frames
	now, err := l.options.Port.Statistics()
	if err != nil {
		return err
	}
	// Half, because the kernel itself may send some frames, and it may still process the last
	// batch.
	taken := now.TxFrames - l.before.TxFrames + now.TxDropped - l.before.TxDropped
	if sent < firstLook || l.options.Port.Kind != "veth" || taken > sent/2 {
		return nil
	}
	return fmt.Errorf("the interface takes no frames: a veth takes those of XDP only if its peer has an XDP program "+
		"(this generator's receiver is one) or GRO on (ethtool -K PEER gro on); or send with --backend %s", XSK)
}
