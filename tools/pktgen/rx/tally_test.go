package rx_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"sluice/tools/netlab"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/labtest"
	"sluice/tools/pktgen/rx"
)

// slowTwin remembers every sequence number of a flow.
type slowTwin struct {
	seen   map[uint32]bool
	top    uint32
	counts rx.Counts
	flow   rx.Flow
}

func (s *slowTwin) take(sequence uint32) {
	s.counts.Frames++
	if s.seen == nil {
		s.seen = map[uint32]bool{sequence: true}
		s.top = sequence
		s.flow = rx.Flow{Distinct: 1, Top: sequence}
		return
	}
	late := sequence <= s.top
	forgotten := late && s.top-sequence >= 64
	if s.seen[sequence] && !forgotten {
		s.counts.Duplicates++
		return
	}
	s.seen[sequence] = true
	s.flow.Distinct++
	if late {
		s.counts.Reordered++
		s.flow.Late++
	} else {
		s.top = sequence
	}
	if forgotten {
		s.counts.Ancient++
	}
	s.flow.Top = s.top
}

// stamped makes frames of one flow with any sequence number: a builder's frame with a changed
// stamp.
func stamped(t testing.TB, stream uint8) func(flowNumber, sequence uint32) []byte {
	b, err := frame.NewBuilder(frame.Spec{Stream: stream, Sizes: []int{60},
		Source:      flow.Range{First: netip.MustParseAddr("10.0.0.1"), Addresses: 1, FirstPort: 1024, Ports: 1},
		Destination: flow.Range{First: netip.MustParseAddr("10.0.0.2"), Addresses: 1, FirstPort: 80, Ports: 1}}, flow.Model{Flows: 1})
	if err != nil {
		t.Fatal(err)
	}
	template := make([]byte, 60)
	b.Next(template, 1)
	return func(flowNumber, sequence uint32) []byte {
		f := slices.Clone(template)
		copy(f[45:], []byte{byte(flowNumber >> 16), byte(flowNumber >> 8), byte(flowNumber),
			byte(sequence >> 24), byte(sequence >> 16), byte(sequence >> 8), byte(sequence)})
		return f
	}
}

// FuzzTally: each byte moves the sequence number forward, back, or not at all; tally and slowTwin
// agree.
func FuzzTally(f *testing.F) {
	f.Add([]byte{1, 1, 1, 0, 1, 255, 3, 1})
	f.Add([]byte{100, 200, 100, 192, 64, 193, 63})
	f.Fuzz(func(t *testing.T, steps []byte) {
		make := stamped(t, 3)
		tally, twin := rx.NewTally(3, 1), &slowTwin{}
		sequence := uint32(1 << 20)
		for _, step := range steps {
			sequence += uint32(int32(int8(step)))
			tally.Take(make(0, sequence))
			twin.take(sequence)
		}
		twin.counts.Bytes = 60 * twin.counts.Frames
		if tally.Counts() != twin.counts || tally.Flows()[0] != twin.flow {
			t.Errorf("steps %v:\n got %+v %+v\nwant %+v %+v", steps, tally.Counts(), tally.Flows()[0], twin.counts, twin.flow)
		}
	})
}

// TestSequenceNumbersWrap: sequence numbers wrap around.
func TestSequenceNumbersWrap(t *testing.T) {
	make, tally := stamped(t, 0), rx.NewTally(0, 1)
	for _, sequence := range []uint32{0xfffffffe, 0xffffffff, 0, 1, 0xffffffff} {
		tally.Take(make(0, sequence))
	}
	if c, f := tally.Counts(), tally.Flows()[0]; c.Reordered != 0 || c.Duplicates != 1 || f.Distinct != 4 || f.Top != 1 {
		t.Errorf("%+v %+v", c, f)
	}
}

// TestSinkCountsAsTally: the program in the kernel and the Go side count the same frames alike,
// valid and mutated ones.
func TestSinkCountsAsTally(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	const flows, stream = 40, 9
	for name, o := range map[string]rx.Options{"following": {Flows: flows, Latency: true}, "counting": {}} {
		t.Run(name, func(t *testing.T) {
			o.Port = pair.SinkAt
			receiver, err := rx.Open(o)
			labtest.Must(t, err)
			defer receiver.Close()
			labtest.Must(t, receiver.Begin(stream))
			before := receiver.Counts().Other // the sender's kernel may send packets
			tally := rx.NewTally(stream, int(o.Flows))
			random := rand.New(rand.NewPCG(1, 2))
			make, stranger := stamped(t, stream), stamped(t, stream+1)
			for range 20_000 {
				f := make(random.Uint32N(flows+2), random.Uint32N(300))
				switch random.IntN(8) {
				case 0:
					f = stranger(1, 1)
				case 1:
					f = mutate(random, f)
				}
				feed(t, receiver, f)
				tally.Take(f)
			}
			got, want := receiver.Counts(), tally.Counts()
			if got.Other < want.Other+before || got.Other > want.Other+before+100 {
				t.Errorf("other frames: %d, want about %d", got.Other, want.Other)
			}
			got.Other = want.Other
			if got != want {
				t.Errorf("counts\n%+v, want\n%+v", got, want)
			}
			if o.Flows == 0 && receiver.Flows() != nil {
				t.Error("it follows flows though it shall not")
			}
			if o.Flows > 0 && !slices.Equal(receiver.Flows(), tally.Flows()) {
				t.Errorf("flows\n%+v, want\n%+v", receiver.Flows(), tally.Flows())
			}
			labtest.Must(t, receiver.Begin(stream+1))
			if c := receiver.Counts(); c.Frames+c.PlainFrames+c.Foreign+c.Duplicates+c.Reordered != 0 {
				t.Errorf("a new measurement begins with %+v", c)
			}
			for i, f := range receiver.Flows() {
				if f != (rx.Flow{}) {
					t.Fatalf("flow %d begins with %+v", i, f)
				}
			}
		})
	}
}

// mutate changes some bytes of the headers, or the length.
func mutate(random *rand.Rand, f []byte) []byte {
	for range random.IntN(3) {
		f[12+random.IntN(32)] = byte(random.Uint32())
	}
	if random.IntN(2) == 0 {
		f = f[:14+random.IntN(len(f)-14)]
	}
	if random.IntN(4) == 0 { // TCP header that may be longer than the frame
		f[min(23, len(f)-1)] = 6
	}
	return f
}

// feed runs the receiver's program on one frame.
func feed(t *testing.T, r rx.Receiver, f []byte) {
	t.Helper()
	_, err := rx.Program(r).Run(&ebpf.RunOptions{Data: f})
	labtest.Must(t, err)
}
