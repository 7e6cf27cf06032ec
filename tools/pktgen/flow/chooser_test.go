package flow_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"sluice/tools/pktgen/flow"
)

// choose returns the first shots of a model.
func choose(t *testing.T, m flow.Model, sources uint32, n int) []flow.Shot {
	t.Helper()
	if err := m.Check(sources); err != nil {
		t.Fatal(err)
	}
	c := flow.NewChooser(m, sources)
	shots := make([]flow.Shot, n)
	for i := range shots {
		shots[i] = c.Next()
	}
	return shots
}

func TestRoundGoesRound(t *testing.T) {
	for i, s := range choose(t, flow.Model{Kind: flow.Round, Flows: 7}, 100, 50) {
		flags := uint8(flow.FlagPSH | flow.FlagACK)
		if i < 7 {
			flags = flow.FlagSYN
		}
		want := flow.Shot{Tuple: uint32(i % 7), Flow: uint32(i % 7), Sequence: uint32(i / 7), Flags: flags}
		if s != want {
			t.Fatalf("packet %d is %+v, want %+v", i, s, want)
		}
	}
}

// TestChurnIsConnections: each connection sends all its packets in order, with the flags of a
// complete connection, and never more than the requested number are open at the same time.
func TestChurnIsConnections(t *testing.T) {
	const concurrent, packets, flows = 3, 5, 8
	shots := choose(t, flow.Model{Kind: flow.Churn, Flows: flows, Concurrent: concurrent, Packets: packets}, 100, 240)
	life := []uint8{flow.FlagSYN, flow.FlagACK, flow.FlagPSH | flow.FlagACK, flow.FlagPSH | flow.FlagACK, flow.FlagFIN | flow.FlagACK}
	open := map[uint32]int{} // packets sent
	opened := uint32(0)
	for i, s := range shots {
		sent := open[s.Flow]
		if sent == 0 {
			if s.Flow != opened%flows {
				t.Fatalf("packet %d opens connection %d, want %d", i, s.Flow, opened%flows)
			}
			opened++
		}
		if s.Flags != life[sent] {
			t.Fatalf("packet %d, number %d of connection %d, has flags %#x, want %#x", i, sent, s.Flow, s.Flags, life[sent])
		}
		if open[s.Flow]++; open[s.Flow] == packets {
			delete(open, s.Flow)
		}
		if len(open) > concurrent {
			t.Fatalf("after packet %d, %d connections are open", i, len(open))
		}
	}
	if want := uint32(len(shots) / packets); opened != want {
		t.Errorf("%d connections were opened, want %d", opened, want)
	}
}

// TestSYNFlood: only SYNs, from all sources.
func TestSYNFlood(t *testing.T) {
	const sources = 1000
	seen := map[uint32]bool{}
	for i, s := range choose(t, flow.Model{Kind: flow.SYN, Seed: 3}, sources, 20000) {
		if s.Flags != flow.FlagSYN || s.Flow != 0 || s.Sequence != uint32(i) || s.Tuple >= sources {
			t.Fatalf("packet %d is %+v", i, s)
		}
		seen[s.Tuple] = true
	}
	if len(seen) != sources {
		t.Errorf("%d sources, want all %d", len(seen), sources)
	}
}

// TestDistributions compares the frequency of each flow with its probability by a chi-squared test.
// The seeds are fixed, and the limit is one that a correct generator does not reach.
func TestDistributions(t *testing.T) {
	const flows, packets = 50, 200_000
	zipf := make([]float64, flows)
	sum := 0.0
	for i := range zipf {
		zipf[i] = math.Pow(float64(i+1), -1.2)
		sum += zipf[i]
	}
	for i := range zipf {
		zipf[i] /= sum
	}
	uniform := slices.Repeat([]float64{1.0 / flows}, flows)
	for name, c := range map[string]struct {
		model  flow.Model
		shares []float64
	}{
		"uniform": {flow.Model{Kind: flow.Uniform, Flows: flows, Seed: 1}, uniform},
		"zipf":    {flow.Model{Kind: flow.Zipf, Flows: flows, Exponent: 1.2, Seed: 1}, zipf},
	} {
		count := make([]float64, flows)
		for _, s := range choose(t, c.model, flows, packets) {
			count[s.Flow]++
		}
		chi2 := 0.0
		for i, share := range c.shares {
			chi2 += (count[i] - share*packets) * (count[i] - share*packets) / (share * packets)
		}
		if chi2 > 110 { // 49 degrees of freedom: 1 in a million
			t.Errorf("%s: chi squared is %.1f: counts %v", name, chi2, count)
		}
	}
}

// TestSameSeedSamePackets: the same seed gives the same packets, another seed others.
func TestSameSeedSamePackets(t *testing.T) {
	m := flow.Model{Kind: flow.Zipf, Flows: 1000, Exponent: 1, Seed: 42}
	a, b := choose(t, m, 1000, 1000), choose(t, m, 1000, 1000)
	if !slices.Equal(a, b) {
		t.Error("the same seed gives other packets")
	}
	m.Seed = 43
	if slices.Equal(a, choose(t, m, 1000, 1000)) {
		t.Error("another seed gives the same packets")
	}
}

// TestRandomIsSplitMix64 compares with the first numbers of the reference implementation for seed
// 1234567.
func TestRandomIsSplitMix64(t *testing.T) {
	r := flow.Random(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := r.Next(); got != want {
			t.Errorf("number %d is %d, want %d", i, got, want)
		}
	}
}

func TestModelErrors(t *testing.T) {
	for want, m := range map[string]flow.Model{
		"0 flows":                {Kind: flow.Round},
		"20000000 flows":         {Kind: flow.Round, Flows: 20_000_000},
		"101 flows need":         {Kind: flow.Uniform, Flows: 101},
		"exponent":               {Kind: flow.Zipf, Flows: 10},
		"concurrent connections": {Kind: flow.Churn, Flows: 10, Concurrent: 11, Packets: 5},
		"at least 3 packets":     {Kind: flow.Churn, Flows: 10, Concurrent: 5, Packets: 2},
		"no flow model":          {Kind: 9},
	} {
		if err := m.Check(100); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", m, err, want)
		}
	}
	if _, err := flow.ParseKind("gauss"); err == nil || !strings.Contains(err.Error(), "round, uniform, zipf, syn, churn") {
		t.Errorf("unknown model: error %v", err)
	}
}
