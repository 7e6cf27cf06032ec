package inspect_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health/policy"
	"sluice/engine/inspect"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

const (
	vip    = "198.51.100.10:80"
	client = "192.0.2.7:40000"
	syn    = 2
)

// web is a service in a mode, with further keys and backends.
func web(mode, keys string, backends ...string) string {
	text := fmt.Sprintf("[[service]]\nname = \"web\"\naddress = \"198.51.100.10\"\nport = 80\nprotocol = \"tcp\"\nmode = %q\n%s\n", mode, keys)
	for _, b := range backends {
		text += "[[service.backend]]\n" + b + "\n"
	}
	return text
}

// box returns a balancer with the tables of a configuration. Clients are behind a router at port
// eth0, backends at port eth1; 10.0.0.99 does not answer ARP.
func box(t *testing.T, text string) *inspect.Offline {
	t.Helper()
	cfg, problems, err := conf.Parse("test.toml", []byte("[[port]]\nname = \"eth0\"\n[[port]]\nname = \"eth1\"\n"+text), nil)
	if err != nil {
		t.Fatal(err, problems)
	}
	var first *policy.State
	health, _ := first.Step(policy.Input{Config: policy.NewIndex(cfg), Now: time.Unix(1, 0)})
	router := netip.MustParseAddr("192.0.0.8")
	infos := []nexthop.PortInfo{{MAC: [6]byte{2}, MTU: 1500, Up: true, Name: "eth0"}, {MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Up: true, Name: "eth1"}}
	routes := []nexthop.Route{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: router}, {Prefix: netip.MustParsePrefix("10.0.0.0/24"), Port: 1}}
	neighbours := []nexthop.Neighbour{{Addr: router, MAC: [6]byte{2, 0, 0, 0, 1}}}
	sources := make(map[netip.Addr]netip.Addr)
	for n := byte(11); n < 20; n++ {
		backend := netip.AddrFrom4([4]byte{10, 0, 0, n})
		neighbours = append(neighbours, nexthop.Neighbour{Addr: backend, Port: 1, MAC: [6]byte{2, 2, 0, 0, 0, n}})
		sources[backend] = netip.MustParseAddr("10.0.0.1")
	}
	compiled, err := tables.Compile(&tables.Input{
		Health: health, Hops: nexthop.Build(infos, routes, neighbours), Sources: sources, Workers: 1, Seed: &flow.Seed{A: 3, B: 5},
		KernelPorts: service.Ports{First: 32768, Last: 60999}, Cards: []tables.Card{{Name: "eth0", Queues: []int{0}}, {Name: "eth1", Queues: []int{0}}},
	}, tables.None())
	if err != nil {
		t.Fatal(err)
	}
	return inspect.NewOffline(inspect.Snapshot{
		Names:  inspect.Names{Services: compiled.Services(), Backends: compiled.Backends(), PortName: []string{"eth0", "eth1"}},
		Config: cfg, Tables: compiled.Tables, Steering: steer.NewDecider(compiled.Rules), Health: health,
		Ports: []route.PortState{{Name: "eth0", Exists: true, Up: true, MTU: 1500}, {Name: "eth1", Exists: true, Up: true, MTU: 1500}},
	})
}

// TestExplain checks that an explanation ends with what happens to the packet, and marks what an
// operator should repair.
func TestExplain(t *testing.T) {
	const one, two = `address = "10.0.0.11"`, `address = "10.0.0.12"`
	for name, c := range map[string]struct {
		config, tuple string
		bytes         int
		verdict       string
		lines         []string // beginnings of steps; "!" marks a problem
	}{
		"forwarded": {web("nat", "", one, two), "tcp " + client + " " + vip, 0, "forwarded to 10.0.0.1",
			[]string{"  steer: to Sluice: 198.51.100.10:80 is a service", "  service: client to web", "  connection: none yet", "  return: through this host"}},
		"no service": {web("nat", "", one), "tcp " + client + " 198.51.100.10:443", 0, "passed to the kernel: ",
			[]string{"! service: none for tcp port 443"}},
		"no neighbour": {web("nat", "", `address = "10.0.0.99"`), "tcp " + client + " " + vip, 0, "dropped: no_neighbour",
			[]string{"! next hop: none to backend 10.0.0.99"}},
		"drained": {web("nat", "", one+"\nweight = 0"), "tcp " + client + " " + vip, 0, "answered: ICMP port unreachable",
			[]string{"  backend: 10.0.0.11:80 left out: its weight is 0"}},
		"tunnel": {web("tun", "", one), "tcp " + client + " " + vip, 0, "forwarded to 10.0.0.11:80 by eth1, but see the marked lines",
			[]string{"! size: a full packet of 1500 bytes becomes 1520"}},
		"too long for a tunnel": {web("tun", "", one), "tcp " + client + " " + vip, 1500, "answered: ICMP fragmentation needed, mtu 1480", nil},
	} {
		q, err := api.ParseTuple(c.tuple)
		if err != nil {
			t.Fatal(err)
		}
		q.Bytes = c.bytes
		e, err := box(t, c.config).Explain(q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := "\n"
		for _, s := range e.Steps {
			text += map[bool]string{true: "! ", false: "  "}[s.Problem] + s.Stage + ": " + s.Text + "\n"
		}
		if !strings.HasPrefix(e.Verdict, c.verdict) {
			t.Errorf("%s: verdict %q, want %q", name, e.Verdict, c.verdict)
		}
		for _, line := range c.lines {
			if !strings.Contains(text, "\n"+line) {
				t.Errorf("%s: no line begins with %q:%s", name, line, text)
			}
		}
	}
}

// TestStrays checks that what a backend sends of its own accord is explained, and shown in a
// simulation, as passed to the kernel: a packet, and an ICMP error about a packet to the backend.
func TestStrays(t *testing.T) {
	text := strings.NewReplacer("port = 80", "port = \"any\"", "\"tcp\"", "\"udp\"").Replace(web("nat", "", `address = "10.0.0.11"`))
	b := box(t, text)
	q, err := api.ParseTuple("udp 10.0.0.11:5353 " + client)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := b.Explain(q); err != nil || !strings.HasPrefix(e.Verdict, "passed to the kernel: it belongs to no connection") {
		t.Errorf("explain: %q, %v", e.Verdict, err)
	}
	stray := packettest.UDP("10.0.0.11:5353", client)
	answer := packettest.UDP(client, "10.0.0.11:5353")
	for name, frame := range map[string][]byte{
		"UDP":        stray.Frame(),
		"ICMP error": packettest.ICMP("10.0.0.11", packettest.Addr(client).String(), 3, 3, 0, answer.IP()).Frame(),
	} {
		e := b.Process(frame, 0)
		if e.Verdict != "pass" || e.Port != "eth1" || e.OutPort != "" || !strings.HasPrefix(e.Text, "passed to the kernel") {
			t.Errorf("%s: verdict %s of a packet from %s to %q: %s", name, e.Verdict, e.Port, e.OutPort, e.Text)
		}
	}
}

// TestExplainDoesNotChange checks that a connection opens where Explain has predicted, however
// often it was asked, and that Explain then finds the connection.
func TestExplainDoesNotChange(t *testing.T) {
	for _, scheduler := range []string{"rr", "wlc", "sh", "mh"} {
		b := box(t, web("nat", fmt.Sprintf("scheduler = %q", scheduler), `address = "10.0.0.11"`, `address = "10.0.0.12"`, `address = "10.0.0.13"`))
		q, _ := api.ParseTuple("tcp " + client + " " + vip)
		var verdict string
		for range 3 {
			e, err := b.Explain(q)
			if err != nil || verdict != "" && e.Verdict != verdict {
				t.Fatalf("%s: %q, then %q, %v", scheduler, verdict, e.Verdict, err)
			}
			verdict = e.Verdict
		}
		event := b.Process(packettest.TCP(client, vip).Flags(syn).Frame(), 0)
		if event.Verdict != "forward" || event.OutPort != "eth1" || !strings.Contains(verdict, event.Backend) || event.Backend == "" {
			t.Errorf("%s: predicted %q, then %s to %q by %s", scheduler, verdict, event.Verdict, event.Backend, event.OutPort)
		}
		e, err := b.Explain(q) // it marks that no reply has come
		if err != nil || !strings.HasPrefix(e.Verdict, verdict) {
			t.Errorf("%s: of the open connection: %q, %v, want %q", scheduler, e.Verdict, err, verdict)
		}
	}
}

// TestProcessKeepsTime checks that a connection expires by the time of the packets.
func TestProcessKeepsTime(t *testing.T) {
	b := box(t, web("nat", `scheduler = "rr"`, `address = "10.0.0.11"`, `address = "10.0.0.12"`))
	open := func(at time.Duration) string {
		return b.Process(packettest.TCP(client, vip).Flags(syn).Frame(), at).Backend
	}
	first := open(0)
	if again := open(time.Second); again != first {
		t.Errorf("the same connection went to %s, then to %s", first, again)
	}
	if later := open(time.Hour); later == first || later == "" {
		t.Errorf("an hour later round robin chose %q again, or the connection is still there", later)
	}
}

// TestProcessNamesPackets checks the line that describes a frame, and what happens to frames that
// are no packets.
func TestProcessNamesPackets(t *testing.T) {
	b := box(t, web("nat", "", `address = "10.0.0.11"`))
	quoted := packettest.UDP("198.51.100.10:53", "192.0.2.7:53").IP()
	for _, c := range []struct {
		frame []byte
		want  string
	}{
		{packettest.TCP(client, vip).Flags(syn).Payload(nil).Frame(), "tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes"},
		{packettest.TCP(client, vip).Flags(syn).Payload(nil).VLAN(7).Frame(), "vlan 7 tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes"},
		{packettest.UDP("[2001:db8::7]:53", "[2001:db8::10]:53").Payload(nil).Frame(), "udp [2001:db8::7]:53 > [2001:db8::10]:53 48 bytes"},
		{packettest.UDP("192.0.2.7:53", "198.51.100.10:53").Payload(nil).Fragment(8, false).Frame(), "fragment 192.0.2.7 > 198.51.100.10"},
		{packettest.ICMP("192.0.2.1", "198.51.100.10", 3, 4, 1400, quoted).Frame(), "icmp 192.0.2.1 > 198.51.100.10 fragmentation needed, mtu 1400"},
		{packettest.ICMP("192.0.2.1", "198.51.100.10", 11, 0, 0, quoted).Frame(), "icmp 192.0.2.1 > 198.51.100.10 time exceeded"},
		{[]byte("short"), "frame without Ethernet header"},
		{append(make([]byte, 12), 0x08, 0x06), "ethertype 0x0806"},
		{append(make([]byte, 12), 0x08, 0x00), "truncated IP header"},
		{make([]byte, platform.FrameSize), "ethertype 0x0000"},
	} {
		event := b.Process(c.frame, 0)
		if !strings.HasPrefix(event.Packet, c.want) || event.Length != len(c.frame) {
			t.Errorf("%q of %d bytes, want %q of %d", event.Packet, event.Length, c.want, len(c.frame))
		}
		if isTCP := strings.Contains(c.want, "tcp"); isTCP != (event.Verdict == "forward") {
			t.Errorf("%s: verdict %s: %s", c.want, event.Verdict, event.Text)
		}
	}
}

// TestProcessNamesRefusedSYN checks what is said of the ACK by which a backend refuses a SYN of
// fullnat.
func TestProcessNamesRefusedSYN(t *testing.T) {
	b := box(t, web("fullnat", `source = ["10.0.0.1"]`, `address = "10.0.0.11"`))
	opened := b.Process(packettest.TCP(client, vip).Flags(syn).Payload(nil).Frame(), 0)
	_, sent, _ := strings.Cut(opened.OutPacket, "10.0.0.1:")
	port, _, found := strings.Cut(sent, " ")
	if !found {
		t.Fatalf("the SYN leaves as %q", opened.OutPacket)
	}
	refused := b.Process(packettest.TCP("10.0.0.11:80", "10.0.0.1:"+port).Flags(16).Seq(7, 77).Payload(nil).Frame(), time.Millisecond)
	if refused.Verdict != "reply" || !strings.Contains(refused.Text, "TIME_WAIT; it gets the SYN again") {
		t.Errorf("verdict %s: %s", refused.Verdict, refused.Text)
	}
}
