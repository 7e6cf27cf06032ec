package rx

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/bpf"
)

// sink is the XDP program on an interface: the whole Kernel receiver, and the first half of the XSK
// one.
type sink struct {
	options  Options
	cpus     int
	objects  bpf.SinkObjects
	attached link.Link

	counts    *ebpf.Memory
	flows     *ebpf.Memory
	latencies *ebpf.Memory

	stream uint8
	before Counts   // counters at Begin
	told   []uint64 // latency buckets at the last call of Latency
}

func openSink(o Options) (*sink, error) {
	s := &sink{options: o, told: make([]uint64, buckets)}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *sink) open() error {
	if err := rlimit.RemoveMemlock(); err != nil { // kernels before 5.11 charge maps to it
		return fmt.Errorf("raising the limit on locked memory: %w", err)
	}
	var err error
	if s.cpus, err = ebpf.PossibleCPU(); err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	if err := s.load(); err != nil {
		return explain(err)
	}
	for _, m := range []struct {
		to  **ebpf.Memory
		of  *ebpf.Map
		say string
	}{{&s.counts, s.objects.Counts, "counters"}, {&s.flows, s.objects.Flows, "flows"}, {&s.latencies, s.objects.Latencies, "latencies"}} {
		if *m.to, err = m.of.Memory(); err != nil {
			return fmt.Errorf("mapping the %s: %w", m.say, err)
		}
	}
	return affinity.Affinity{Netns: s.options.Port.Affinity.Netns, CPU: affinity.AnyCPU}.Do(s.attach)
}

func (s *sink) load() error {
	spec, err := bpf.LoadSink()
	if err != nil {
		return fmt.Errorf("the XDP program in this binary can't be read: %w", err)
	}
	if spec.Maps[bpf.SinkMapLatencies].MaxEntries != buckets {
		return errors.New("the XDP program in this binary has other latency buckets")
	}
	spec.Maps[bpf.SinkMapCounts].MaxEntries = uint32(s.cpus)
	spec.Maps[bpf.SinkMapLatencies].MaxEntries *= uint32(s.cpus)
	spec.Maps[bpf.SinkMapFlows].MaxEntries = max(s.options.Flows, 1)
	want := bpf.SinkWant{Flows: s.options.Flows}
	if s.options.Latency {
		want.Latency = 1
	}
	if s.options.Backend == XSK {
		want.Sockets = 1
	}
	if err := spec.Variables[bpf.SinkVarWant].Set(want); err != nil {
		return fmt.Errorf("setting what the program wants: %w", err)
	}
	return spec.LoadAndAssign(&s.objects, nil)
}

// attach prefers native XDP and uses generic XDP if the driver has none. The link ends with this
// process.
func (s *sink) attach() error {
	var err error
	for _, mode := range []link.XDPAttachFlags{link.XDPDriverMode, link.XDPGenericMode} {
		s.attached, err = link.AttachXDP(link.XDPOptions{Program: s.objects.PktgenSink, Interface: s.options.Port.Index, Flags: mode})
		if !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
	}
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("another XDP program is attached (ip link show dev %s): %w", s.options.Port.Name, err)
	}
	if err != nil {
		return fmt.Errorf("attaching the XDP program: %w", explain(err))
	}
	return nil
}

// explain replaces the library's message for EPERM, which names the memory limit: that is never the
// cause from Linux 5.11 on.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return errors.New("XDP needs the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW: run as root")
	}
	return err
}

func (s *sink) Backend() Backend { return s.options.Backend }
func (s *sink) Err() error       { return nil }

// Close detaches the program and frees the maps. It must not be called twice.
func (s *sink) Close() error {
	var errs []error
	if s.attached != nil {
		errs = append(errs, s.attached.Close())
	}
	return errors.Join(append(errs, s.objects.Close())...)
}

func (s *sink) Begin(stream uint8) error {
	if err := s.objects.Stream.Set(uint32(stream)); err != nil {
		return fmt.Errorf("telling the XDP program the stream: %w", err)
	}
	s.stream = stream
	s.before = s.total()
	s.Latency()
	return nil
}

func (s *sink) Counts() Counts { return s.total().minus(s.before) }

func (c Counts) minus(b Counts) Counts {
	return Counts{
		Frames: c.Frames - b.Frames, Bytes: c.Bytes - b.Bytes,
		PlainFrames: c.PlainFrames - b.PlainFrames, PlainBytes: c.PlainBytes - b.PlainBytes,
		Foreign: c.Foreign - b.Foreign, Other: c.Other - b.Other,
		Duplicates: c.Duplicates - b.Duplicates, Reordered: c.Reordered - b.Reordered, Ancient: c.Ancient - b.Ancient,
		Overrun: c.Overrun - b.Overrun,
	}
}

// total adds up the counters of all CPUs since Open.
func (s *sink) total() (t Counts) {
	const counterWords = 16
	words := readWords(s.counts, s.cpus*counterWords)
	for ; len(words) >= counterWords; words = words[counterWords:] {
		t.Frames += words[0]
		t.Bytes += words[1]
		t.PlainFrames += words[2]
		t.PlainBytes += words[3]
		t.Foreign += words[4]
		t.Other += words[5]
		t.Duplicates += words[6]
		t.Reordered += words[7]
		t.Ancient += words[8]
	}
	return t
}

// readWords reads 64-bit words that the program is writing; each one is whole.
func readWords(m *ebpf.Memory, n int) []uint64 {
	b := make([]byte, 8*n)
	if _, err := m.ReadAt(b, 0); err != nil {
		return nil // cannot fail: the mapping has this length
	}
	words := make([]uint64, n)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return words
}

func (s *sink) Latency() *hdrhistogram.Histogram {
	h := NewHistogram()
	now := make([]uint64, buckets)
	for i, count := range readWords(s.latencies, s.cpus*buckets) {
		now[i%buckets] += count
	}
	for i, count := range now {
		if more := count - s.told[i]; more > 0 {
			_ = h.RecordValues(middleOf(i), int64(more)) // the last bucket is in range
		}
	}
	s.told = now
	return h
}

func (s *sink) Flows() []Flow {
	if s.options.Flows == 0 {
		return nil
	}
	const followBytes = 24
	b := make([]byte, followBytes*int(s.options.Flows))
	if _, err := s.flows.ReadAt(b, 0); err != nil {
		return nil
	}
	flows := make([]Flow, s.options.Flows)
	for i := range flows {
		f := b[followBytes*i:]
		if binary.NativeEndian.Uint32(f[16:]) == uint32(s.stream)+1 {
			flows[i] = Flow{Top: binary.NativeEndian.Uint32(f[8:]), Distinct: binary.NativeEndian.Uint32(f[12:]),
				Late: binary.NativeEndian.Uint32(f[20:])}
		}
	}
	return flows
}
