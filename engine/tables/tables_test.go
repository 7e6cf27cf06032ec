package tables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/engine/override"
	"sluice/pipeline"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// inputs makes random inputs: configurations that share services and backends, in surroundings that
// change.
type inputs struct {
	t       *testing.T
	r       *rand.Rand
	rss     *flow.RSS
	configs []*policy.Index
}

func newInputs(t *testing.T, seed uint64) *inputs {
	g := &inputs{t: t, r: rand.New(rand.NewPCG(seed, 1)), rss: &flow.RSS{Key: make([]byte, 40), Queues: make([]uint16, 128), TCP4: true}}
	for i := range g.rss.Key {
		g.rss.Key[i] = byte(g.r.Uint32())
	}
	for i := range g.rss.Queues {
		g.rss.Queues[i] = uint16(i % 2)
	}
	for range 4 {
		cfg, _, err := conf.Parse("test.toml", []byte(g.text()), nil)
		if err != nil {
			t.Fatal(err)
		}
		g.configs = append(g.configs, policy.NewIndex(cfg))
	}
	return g
}

// text returns a configuration of some of eight services with some of six backends each.
func (g *inputs) text() string {
	var b strings.Builder
	b.WriteString("[[port]]\nname = \"eth0\"\n")
	modes := []string{"nat", "fullnat", "tun", "dr"}
	schedulers := []string{"rr", "wlc", "mh", "sh"}
	for s := range 8 {
		if s > 0 && g.r.IntN(3) == 0 {
			continue
		}
		mode := modes[g.r.IntN(4)]
		fmt.Fprintf(&b, "[[service]]\nname = \"s%d\"\naddress = \"198.51.100.%d\"\nport = 80\nprotocol = \"tcp\"\nmode = %q\nscheduler = %q\n",
			s, 10+s, mode, schedulers[g.r.IntN(4)])
		if mode == "fullnat" {
			fmt.Fprintf(&b, "source = [\"10.0.1.%d\"]\n", 1+g.r.IntN(3))
		}
		if g.r.IntN(6) == 0 {
			b.WriteString("persistence = \"1m\"\n")
		}
		if g.r.IntN(4) == 0 {
			b.WriteString("sorry = { address = \"10.0.0.99\" }\n")
		}
		for n := range 6 {
			if n == 5 || g.r.IntN(2) == 0 {
				fmt.Fprintf(&b, "[[service.backend]]\naddress = \"10.0.0.%d\"\nweight = %d\n", 10*(s%3)+n+1, g.r.IntN(4))
			}
		}
	}
	return b.String()
}

// next returns a random input.
func (g *inputs) next() *Input {
	index := g.configs[g.r.IntN(len(g.configs))]
	in := &Input{
		Sources: make(map[netip.Addr]netip.Addr), KernelPorts: service.Ports{First: 32768, Last: 60999},
		Cards: []Card{{Name: "eth0", Queues: []int{0, 1}, RSS: g.rss}}, Workers: 2, Seed: &flow.Seed{A: 17, B: 19},
	}
	if g.r.IntN(3) == 0 {
		in.Locals = []netip.Addr{netip.MustParseAddr("10.0.1.1")}
	}
	var neighbours []nexthop.Neighbour
	var routes []nexthop.Route
	overrides := make(override.Set)
	for id, b := range index.EachBackend() {
		address := b.Key.Address
		if g.r.IntN(3) > 0 {
			routes = append(routes, nexthop.Route{Prefix: netip.PrefixFrom(address, 32)})
			neighbours = append(neighbours, nexthop.Neighbour{Addr: address, MAC: [6]byte{2, 2, 2, 2, 2, address.As4()[3]}})
		}
		if g.r.IntN(3) > 0 {
			in.Sources[address] = netip.MustParseAddr("192.0.2.1")
		}
		if weight := g.r.IntN(8); weight < 4 && weight != b.Weight {
			overrides[id] = override.OfWeight(weight, b.Weight)
		}
	}
	in.Hops = nexthop.Build([]nexthop.PortInfo{{MAC: [6]byte{2}, MTU: 1500, Up: true, Name: "eth0"}}, routes, neighbours)
	var first *policy.State
	in.Health, _ = first.Step(policy.Input{Config: index, Overrides: overrides, Now: time.Unix(1, 0)})
	return in
}

func compiled(t *testing.T, in *Input, before Result) Result {
	t.Helper()
	r, err := Compile(in, before)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCompileIsPure: equal arguments give equal results, whatever was compiled between from the
// same state, and neither the input nor the state before is changed.
func TestCompileIsPure(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		g := newInputs(t, seed)
		type step struct {
			in     *Input
			before Result
			first  Result
		}
		var steps []step
		last := None()
		for range 8 {
			in := g.next()
			first := compiled(t, in, last)
			for range 2 {
				compiled(t, g.next(), last) // is dropped
			}
			steps = append(steps, step{in, last, first})
			last = first
		}
		// The chain again from the beginning, with values of its own.
		fresh := None()
		for i, s := range steps {
			again := compiled(t, s.in, fresh)
			if !reflect.DeepEqual(again, s.first) {
				t.Fatalf("seed %d step %d: another result from equal arguments", seed, i)
			}
			if !reflect.DeepEqual(s.before, fresh) {
				t.Fatalf("seed %d step %d: the result before was changed", seed, i)
			}
			fresh = again
		}
	}
}

// TestCompileShares: tables for a changed neighbour copy nothing of the state but what changes.
func TestCompileShares(t *testing.T) {
	g := newInputs(t, 3)
	in := g.next()
	first := compiled(t, in, None())
	next := *in
	next.Hops = nexthop.Build([]nexthop.PortInfo{{MAC: [6]byte{2}, MTU: 1400, Up: true, Name: "eth0"}}, nil, nil)
	second := compiled(t, &next, first)
	a, b := first.State, second.State
	for name, same := range map[string]bool{
		"numbers":       reflect.ValueOf(a.ids.backend).Pointer() == reflect.ValueOf(b.ids.backend).Pointer(),
		"last weights":  &a.last[0] == &b.last[0],
		"ownership":     &a.history[0] == &b.history[0],
		"schedulers":    &a.schedulers.cached[0] == &b.schedulers.cached[0],
		"consistent":    a.schedulers.builder == b.schedulers.builder,
		"pools":         reflect.ValueOf(a.snat.pools).Pointer() == reflect.ValueOf(b.snat.pools).Pointer(),
		"rules":         &first.Rules.Services[0] == &second.Rules.Services[0],
		"source ports":  len(a.snat.sources) == 0 || &a.snat.sources[0] == &b.snat.sources[0],
		"backend lists": &first.Tables.Services[1].Backends[0] == &second.Tables.Services[1].Backends[0],
	} {
		if !same {
			t.Errorf("%s: copied", name)
		}
	}
}

// TestNumbersStay: a service or backend has its number again when it returns, and another in
// another mode.
func TestNumbersStay(t *testing.T) {
	const text = "[[port]]\nname = \"eth0\"\n[[service]]\nname = \"s\"\naddress = \"198.51.100.10\"\nport = 80\nprotocol = \"tcp\"\nmode = %q\nscheduler = \"rr\"\n" +
		"[[service.backend]]\naddress = \"10.0.0.1\"\n"
	g := newInputs(t, 1)
	var all [][]uint32
	last := None()
	for _, mode := range []string{"nat", "dr", "", "nat"} {
		in := g.next()
		source := fmt.Sprintf(text, mode)
		if mode == "" {
			source = "service = []\n[[port]]\nname = \"eth0\"\n"
		}
		cfg, _, err := conf.Parse("test.toml", []byte(source), nil)
		if err != nil {
			t.Fatal(err)
		}
		var first *policy.State
		in.Health, _ = first.Step(policy.Input{Config: policy.NewIndex(cfg), Now: time.Unix(1, 0)})
		r := compiled(t, in, last)
		last = r
		var numbers []uint32
		for number := range r.Tables.Services {
			numbers = append(numbers, r.Tables.Services[number].Backends...)
		}
		all = append(all, numbers)
	}
	if want := [][]uint32{{1}, {2}, nil, {1}}; !reflect.DeepEqual(all, want) {
		t.Errorf("numbers %v, want %v", all, want)
	}
	if len(last.Services()) != 2 || len(last.Backends()) != 3 {
		t.Errorf("%d services and %d backends have numbers", len(last.Services())-1, len(last.Backends())-1)
	}
}

// TestNumbersComeBack: numbers of backends and services that have no connections any more are given
// to others, and nothing of the former ones is left.
func TestNumbersComeBack(t *testing.T) {
	g := newInputs(t, 1)
	last := None()
	var first *policy.State
	for round := range 300 {
		text := "[[port]]\nname = \"eth0\"\n"
		for s := range 3 {
			n := 3*round + s
			text += fmt.Sprintf("[[service]]\naddress = \"198.51.%d.%d\"\nport = 80\nmode = %q\nscheduler = \"rr\"\n", n>>8, n&255, []string{"nat", "fullnat", "dr"}[s])
			if s == 1 {
				text += fmt.Sprintf("source = [\"10.9.%d.%d\"]\n", n>>8, n&255)
			}
			text += fmt.Sprintf("[[service.backend]]\naddress = \"10.1.%d.%d\"\n[[service.backend]]\naddress = \"10.2.0.1\"\n", n>>8, n&255)
		}
		cfg, _, err := conf.Parse("test.toml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		in := g.next()
		in.Health, _ = first.Step(policy.Input{Config: policy.NewIndex(cfg), Now: time.Unix(1, 0)})
		last = compiled(t, in, last)
		if replies, pools := len(last.Rules.Replies), len(last.Rules.Pools); round > 0 && (replies != 4 || pools < 2) {
			t.Fatalf("round %d: the rules have %d replies and %d pools: connections of former backends have none", round, replies, pools)
		}
		former, pools := last.Former()
		if round > 0 && len(former) != 6 {
			t.Fatalf("round %d: %d former backends", round, len(former))
		}
		end := *in
		end.Ended.Backends = former
		for name := range pools {
			end.Ended.Pools = append(end.Ended.Pools, name)
		}
		last = compiled(t, &end, last)
		if former, pools := last.Former(); len(former)+len(pools) != 0 || len(last.Rules.Replies) != 2 {
			t.Fatalf("round %d: backends %v and pools %v are left, rules %v", round, former, pools, last.Rules.Replies)
		}
	}
	if s, b := len(last.Services())-1, len(last.Backends())-1; s > 6 || b > 12 {
		t.Errorf("%d services and %d backends have numbers", s, b)
	}
	if n := len(last.snat.addrs); n > 2 || len(last.snat.rules) > 2 || len(last.snat.perBackend) != 2 {
		t.Errorf("%d sources have numbers; %d endpoints, %d backends", n, len(last.snat.rules), len(last.snat.perBackend))
	}
}

// TestOwnershipHistory: connections of before are found, and Moved is not forgotten.
func TestOwnershipHistory(t *testing.T) {
	type want struct {
		now   pipeline.Ownership
		moved bool
	}
	for _, c := range []struct {
		name           string
		oneWay, spread []bool
		want           []want
	}{
		{"always one way", []bool{true, true}, []bool{true, true}, []want{{pipeline.ByReceiver, false}, {pipeline.ByReceiver, false}}},
		{"a hash stays", []bool{false, true}, []bool{true, true}, []want{{pipeline.ByFlow, false}, {pipeline.ByFlow, false}}},
		{"receivers are asked", []bool{true, false, true}, []bool{true, true, true},
			[]want{{pipeline.ByReceiver, false}, {pipeline.ByFlowNow, true}, {pipeline.ByFlowNow, true}}},
		{"no spread at first", []bool{true, true}, []bool{false, true}, []want{{pipeline.ByFlow, false}, {pipeline.ByFlow, false}}},
		{"no spread any more", []bool{true, true, true}, []bool{true, false, true},
			[]want{{pipeline.ByReceiver, false}, {pipeline.ByFlowNow, true}, {pipeline.ByFlowNow, true}}},
	} {
		var o ownership
		var got []want
		for i, oneWay := range c.oneWay {
			o = o.follows(pipeline.ByFlow, c.spread[i], oneWay, true)
			got = append(got, want{o.now, o.moved})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestSpread: the receiver may own flows only where one port faces the clients and its card tells
// that a flow comes to one worker.
func TestSpread(t *testing.T) {
	rss := func(queues ...uint16) *flow.RSS { return &flow.RSS{Queues: queues, TCP4: true, UDP6: true} }
	both, first := []int{0, 1}, []int{0}
	up := []nexthop.PortInfo{{MTU: 1500, Up: true}, {MTU: 1500, Up: true}}
	via := func(ports ...uint8) nexthop.Route {
		r := nexthop.Route{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Port: ports[0]}
		for _, port := range ports[1:] {
			r.Also = append(r.Also, nexthop.Leg{Port: port})
		}
		return r
	}
	tcp4 := pipeline.Service{Addr: packet.AddrFrom(netip.MustParseAddr("198.51.100.10")), Proto: uint8(service.TCP)}
	udp4, tcp6 := tcp4, tcp4
	udp4.Proto, tcp6.Addr = uint8(service.UDP), packet.AddrFrom(netip.MustParseAddr("2001:db8::10"))
	for _, c := range []struct {
		name   string
		cards  []Card
		routes []nexthop.Route
		s      *pipeline.Service
		want   bool
	}{
		{"one port needs no route", []Card{{Queues: both, RSS: rss(0, 1)}}, nil, &tcp4, true},
		{"veth", []Card{{Queues: both}}, nil, &tcp4, false},
		{"UDP by addresses alone", []Card{{Queues: both, RSS: rss(0, 1)}}, nil, &udp4, false},
		{"IPv6 by addresses alone", []Card{{Queues: both, RSS: rss(0, 1)}}, nil, &tcp6, false},
		{"a worker without packets", []Card{{Queues: both, RSS: rss(0, 0)}}, nil, &tcp4, false},
		{"one queue for two workers", []Card{{Queues: first, RSS: rss(0, 1)}}, nil, &tcp4, false},
		{"two ports, one uplink", []Card{{Queues: both, RSS: rss(0, 1)}, {Queues: both, RSS: rss(0, 1)}}, []nexthop.Route{via(0)}, &tcp4, true},
		{"two uplinks", []Card{{Queues: both, RSS: rss(0, 1)}, {Queues: both, RSS: rss(0, 1)}}, []nexthop.Route{via(0, 1)}, &tcp4, false},
		{"two ports, no default route", []Card{{Queues: both, RSS: rss(0, 1)}, {Queues: both, RSS: rss(0, 1)}}, nil, &tcp4, false},
		{"another port without RSS", []Card{{Queues: both, RSS: rss(0, 1)}, {Queues: both}}, []nexthop.Route{via(0)}, &tcp4, false},
		{"another port of one queue", []Card{{Queues: both, RSS: rss(0, 1)}, {Queues: first}}, []nexthop.Route{via(0)}, &tcp4, true},
	} {
		in := &Input{Cards: c.cards, Workers: 2, Hops: nexthop.Build(up[:len(c.cards)], c.routes, nil)}
		ports := clientPorts{in.clientPortOf(true, clientPort{}), in.clientPortOf(false, clientPort{})}
		if got := ports.spread(in, c.s); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		in.Hops = nexthop.Build(up[:len(c.cards)], nil, nil) // the link is down
		ports.v4 = in.clientPortOf(true, ports.v4)
		if got := ports.spread(in, c.s); got != c.want {
			t.Errorf("%s, then no route: %v, want %v", c.name, got, c.want)
		}
	}
}
