package steer_test

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/gopacket"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// TestReasons: a decision names the rule and the addresses that led to it.
func TestReasons(t *testing.T) {
	decider := steer.NewDecider(testRules())
	later := gopacket.Payload("12345678")
	quote := build(t, ip(web4, client4, pTCP), tcp(80, 1234))
	for _, c := range []struct {
		frame  []byte
		target steer.Target
		reason steer.Reason
		rule   service.Key
		text   string
	}{
		{packet(t, ip(client4, web4, pTCP), tcp(1234, 8001)), steer.Sluice, steer.ToService, key(web4, 8000, 8099, service.TCP),
			"198.51.100.10:8001 is a service"},
		{packet(t, fragment4(client4, web4, pTCP, 5, true), later), steer.Kernel, steer.LaterFragment, service.Key{},
			"it is not the first fragment of its packet, and the first one did not go to Sluice"},
		{packet(t, fragment4(client4, vip4, pTCP, 5, true), later), steer.Sluice, steer.ToVIP, service.Key{},
			"198.51.100.40 is the address of a service, and not of this host"},
		{packet(t, ip(b6, l6, pTCP), tcp(8080, 20000)), steer.Sluice, steer.ToPool, key(l6, 20000, 29999, service.TCP),
			"[fd00::2]:20000 is a port that fullnat sends from"},
		{packet(t, ip(b4, client4, pTCP), tcp(8080, 1234)), steer.Sluice, steer.FromBackend, key(b4, 8080, 8080, service.TCP),
			"10.0.0.11:8080 is a nat backend, and 203.0.113.7 is not this host"},
		{packet(t, ip(bAny4, client4, pTCP), syn(40000, 443)), steer.Kernel, steer.BackendOpens, key(bAny4, 0, 65535, service.TCP),
			"a nat backend opened the connection of 10.0.0.12:40000 and 203.0.113.7:443"},
		{packet(t, ip(b4, h4, pTCP), tcp(8080, 1234)), steer.Kernel, steer.BackendToHost, key(b4, 8080, 8080, service.TCP),
			"10.0.0.1 is an address of this host or a subnet's broadcast address: what backend 10.0.0.11:8080 sends to it is not a reply to a client"},
		{packet(t, ip(bAny4, "224.0.0.251", pUDP), udp(5353, 5353)), steer.Kernel, steer.BackendToGroup, key(bAny4, 0, 65535, service.UDP),
			"224.0.0.251 is a multicast address: what backend 10.0.0.12:5353 sends to it is not a reply to a client"},
		{packet(t, ip(bAny4, "255.255.255.255", pUDP), udp(68, 67)), steer.Kernel, steer.BackendToGroup, key(bAny4, 0, 65535, service.UDP),
			"255.255.255.255 is the broadcast address: what backend 10.0.0.12:68 sends to it is not a reply to a client"},
		{packet(t, ip(web4, h4, pTCP), tcp(80, 30000)), steer.Prober, steer.ProbeAnswer, key(web4, 80, 80, service.TCP),
			"an answer of 198.51.100.10:80 to a health probe from 10.0.0.1:30000"},
		{icmp(t, router4, web4, 3, quote), steer.Sluice, steer.ToService, key(web4, 80, 80, service.TCP),
			"an ICMP error about a packet from 198.51.100.10:80 to 203.0.113.7:1234: 198.51.100.10:80 is a service"},
		{icmp(t, router4, h4, 3, quote), steer.Kernel, steer.QuoteOfAnother, service.Key{},
			"the ICMP error quotes a packet that its receiver did not send"},
		{packet(t, ip(client4, other4, pTCP), tcp(1234, 80)), steer.Kernel, steer.NoRule, service.Key{},
			"neither 198.51.100.30:80 nor 203.0.113.7:1234 belongs to a service"},
	} {
		got := decider.Decide(c.frame)
		if got.Target != c.target || got.Reason != c.reason || got.Rule != c.rule || got.String() != c.text {
			t.Errorf("%+v\n%s\nwant %v %v %s\n%s", got, got, c.target, c.reason, c.rule, c.text)
		}
	}
}

// TestDecideTuple: the decision about a tuple is that about a whole packet with its ends.
func TestDecideTuple(t *testing.T) {
	decider := steer.NewDecider(testRules())
	random := rand.New(rand.NewPCG(5, 6))
	for _, f := range families {
		for range 1000 {
			source, destination := one(random, []string{f.client, f.b, f.bAny, f.web, f.h}), one(random, []string{f.web, f.any, f.l, f.h, f.client})
			from, to := one(random, portNumbers), one(random, portNumbers)
			frame := packet(t, ip(source, destination, pTCP), build4(t, from, to))
			want := decider.Decide(frame)
			got := decider.DecideTuple(service.TCP, netip.AddrPortFrom(netip.MustParseAddr(source), from), netip.AddrPortFrom(netip.MustParseAddr(destination), to))
			if got != want {
				t.Fatalf("tcp %s:%d to %s:%d: %+v, as a frame %+v", source, from, destination, to, got, want)
			}
		}
	}
}

// build4 is a TCP header that has its ports only.
func build4(_ testing.TB, from, to uint16) gopacket.Payload {
	return gopacket.Payload{byte(from >> 8), byte(from), byte(to >> 8), byte(to), 0, 0, 0, 0}
}

// TestTruncated cuts each frame at every length. The kernel takes no frame shorter than an Ethernet
// header.
func TestTruncated(t *testing.T) {
	port, decider, memory := testPort(t), steer.NewDecider(testRules()), steer.NewMemory()
	for _, c := range cases(t) {
		for n := 14; n < len(c.frame); n++ {
			frame := c.frame[:n]
			if got, want := actionOf(t, port, frame), decider.DecideAt(loopbackIndex, frame, memory); got != actionOn(want) {
				t.Errorf("%s, cut to %d bytes: action %v, Decide returns %+v\n%x", c.name, n, got, want, frame)
			}
		}
	}
}

// packetsEnv is the environment variable that says how many packets TestDecideIsTheProgram
// compares.
const packetsEnv = "STEER_TEST_PACKETS"

// perRules is how many packets are compared under one set of rules.
const perRules = 2500

// TestDecideIsTheProgram gives the same packets to Decide and to the XDP program, under many sets
// of rules: handwritten packets that were changed in a few bytes, and generated ones.
func TestDecideIsTheProgram(t *testing.T) {
	packets := 100_000
	if testing.Short() {
		packets = 10_000
	}
	if text := os.Getenv(packetsEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s=%s: must be a number of packets", packetsEnv, text)
		}
		packets = n
	}
	enterNamespace(t)
	program := load(t)
	lo := loopback(t)
	if err := program.Detour(lo.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	port := attach(t, program, lo, steer.Generic)
	handwritten := cases(t)
	random := rand.New(rand.NewPCG(1, 2))
	rules, decider, memory := testRules(), (*steer.Decider)(nil), (*steer.Memory)(nil)
	seen, changed, generated := map[steer.Decision]int{}, 0, 0
	var opening []byte // the last one that opened a connection
	for n := range packets {
		if n%perRules == 0 {
			if n > 0 {
				rules = randomRules(random)
			}
			if err := program.Set(rules); err != nil {
				t.Fatal(err)
			}
			if err := program.Forget(); err != nil {
				t.Fatal(err)
			}
			decider, memory = steer.NewDecider(rules), steer.NewMemory()
		}
		var frame []byte
		if n%perRules < perRules/4 {
			c := one(random, handwritten)
			frame = mutate(random, c.frame)
			if actionOn(decider.DecideAt(loopbackIndex, frame, steer.NewMemory())) != c.action {
				changed++
			}
		} else {
			if frame = nil; opening != nil && random.IntN(4) == 0 {
				frame = related(random, opening)
			}
			if frame == nil {
				frame = randomFrame(random)
			}
			generated++
		}
		got, want := actionOf(t, port, frame), decider.DecideAt(loopbackIndex, frame, memory)
		if got != actionOn(want) {
			t.Fatalf("packet %d: action %v, Decide returns %+v (%s)\n%x\nunder %+v", n, got, want, want, frame, rules)
		}
		if want.Reason == steer.BackendOpens {
			opening = frame
		}
		seen[steer.Decision{Target: want.Target, Reason: want.Reason, Quoted: want.Quoted, Fragment: want.Fragment}]++
	}
	t.Logf("%d packets, %d generated: no difference", packets, generated)
	if changed < packets/200 {
		t.Errorf("only %d changes of handwritten packets changed the action: they test little", changed)
	}
	expectVariety(t, seen, packets)
}

// Packets from which on all decisions must be among those compared: but for the rarest ones, and
// with them. With fewer packets chance could leave one out.
const (
	enoughForMost = 100_000
	enoughForAll  = 1_000_000
)

// expectVariety checks that all decisions that there are were among those compared.
func expectVariety(t *testing.T, seen map[steer.Decision]int, packets int) {
	t.Helper()
	if packets < enoughForMost {
		return
	}
	want := []steer.Decision{{Target: steer.Prober, Reason: steer.ProbeAnswer}}
	if packets >= enoughForAll {
		want = append(want, steer.Decision{Target: steer.Prober, Reason: steer.ProbeAnswer, Quoted: true})
	}
	for _, reason := range []steer.Reason{
		steer.ToService, steer.ToPool, steer.ToVIP, steer.FromBackend,
		steer.BackendToHost, steer.BackendToGroup, steer.BackendOpens, steer.NoRule,
	} {
		target := steer.Sluice
		if reason >= steer.BackendToHost {
			target = steer.Kernel
		}
		for _, bits := range []int{0, 1, 2, 3} {
			if bits == 3 && (packets < enoughForAll || reason == steer.BackendOpens) {
				continue
			}
			want = append(want, steer.Decision{Target: target, Reason: reason, Quoted: bits&1 != 0, Fragment: bits&2 != 0})
		}
	}
	for _, reason := range []steer.Reason{
		steer.OtherMAC, steer.OtherVLAN, steer.GroupMAC, steer.ServiceTag, steer.NotIP, steer.BadIPHeader, steer.BadExtensions, steer.NoPorts, steer.OtherProtocol,
		steer.NotAnError, steer.BadQuote, steer.QuoteOfAnother, steer.QuotedProtocol, steer.QuotedFragment,
		steer.Discovery, steer.LaterFragment,
	} {
		want = append(want, steer.Decision{Reason: reason})
	}
	want = append(want, steer.Decision{Target: steer.Sluice, Reason: steer.AfterFirst, Fragment: true})
	want = append(want, steer.Decision{Target: steer.Sluice, Reason: steer.BeforeFirst, Fragment: true})
	for _, d := range want {
		if seen[d] == 0 {
			t.Errorf("%d of %d packets are decided as %+v", seen[d], packets, d)
		}
	}
}

func FuzzDecide(f *testing.F) {
	port, program := testPortOf(f)
	decider := steer.NewDecider(testRules())
	for _, c := range cases(f) {
		f.Add(c.frame)
	}
	random := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		f.Add(randomFrame(random))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 3000 { // what the kernel's test run takes
			return
		}
		if err := program.Forget(); err != nil {
			t.Fatal(err)
		}
		if got, want := actionOf(t, port, frame), decider.DecideAt(loopbackIndex, frame, steer.NewMemory()); got != actionOn(want) {
			t.Errorf("action %v, Decide returns %+v\n%x", got, want, frame)
		}
	})
}

// BenchmarkDecide measures Decide, which explain, simulate and trace call once for each packet.
func BenchmarkDecide(b *testing.B) {
	decider, frame := steer.NewDecider(testRules()), packet(b, ip(client4, web4, pTCP), tcp(1234, 80))
	for b.Loop() {
		if decider.Decide(frame).Target != steer.Sluice {
			b.Fatal("not Sluice's")
		}
	}
}

// TestReasonsAreNamed: each has words of its own.
func TestReasonsAreNamed(t *testing.T) {
	seen := map[string]bool{}
	for r := steer.ToService; r <= steer.Discovery; r++ {
		text := r.String()
		if text == "" || seen[text] || strings.HasSuffix(text, ".") {
			t.Errorf("reason %d is called %q", r, text)
		}
		seen[text] = true
	}
}
