package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/engine"
	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/engine/inspect"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// explain returns the engine's explanation of a tuple, and checks that it changes nothing.
func explain(t *testing.T, lab *enginetest.Lab, tuple string) api.Explanation {
	t.Helper()
	q, err := api.ParseTuple(tuple)
	if err != nil {
		t.Fatal(err)
	}
	before := lab.Stats()
	e, err := lab.Engine.Explain(context.Background(), q)
	if err != nil {
		t.Fatalf("explain %s: %v", tuple, err)
	}
	after := lab.Stats()
	if before.Rx != after.Rx || before.Tables != after.Tables || cmp.Diff(before.Drops, after.Drops) != "" {
		t.Errorf("explaining %s has changed the counters: %+v, %+v", tuple, before, after)
	}
	return e
}

// text returns the explanation as the command prints it.
func text(e api.Explanation) string {
	var b strings.Builder
	for _, s := range e.Steps {
		mark := " "
		if s.Problem {
			mark = "!"
		}
		fmt.Fprintf(&b, "%s %s: %s\n", mark, s.Stage, s.Text)
	}
	fmt.Fprintf(&b, "= %s\n", e.Verdict)
	return b.String()
}

// says checks that the explanation has lines that begin so.
func says(t *testing.T, e api.Explanation, lines ...string) {
	t.Helper()
	all := text(e)
	for _, line := range lines {
		if !strings.Contains("\n"+all, "\n"+line) {
			t.Errorf("no line begins with %q:\n%s", line, all)
		}
	}
}

const asked = "tcp 192.0.2.7:40000 -> 198.51.100.10:80"

// TestExplainPredicts: a new connection goes where Explain has reported, for every scheduler, and
// asking twice does not change it.
func TestExplainPredicts(t *testing.T) {
	t.Parallel()
	for _, scheduler := range service.Schedulers {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s with %d workers", scheduler, workers), func(t *testing.T) {
				if workers == 1 || scheduler != "wlc" && scheduler != "mh" {
					slow(t)
				}
				lab := enginetest.New(t, workers, workers)
				s := nat3()
				s.sched, s.backends[1] = scheduler, "10.0.0.12:8080 3"
				lab.Start(workers, config(s))
				for n := range 20 {
					tuple := fmt.Sprintf("tcp %s -> %s:80", client(n), vip4)
					e, again := explain(t, lab, tuple), explain(t, lab, tuple)
					if e.Backend != again.Backend || e.Backend == "" {
						t.Fatalf("explained as %q, then as %q:\n%s", e.Backend, again.Backend, text(e))
					}
					out := one(t, lab.Send(enginetest.Clients, 0, opening(n).Frame()))
					if got := backendOf(t, out.Frame) + ":8080"; got != e.Backend {
						t.Fatalf("connection %d went to %s:\n%s", n, got, text(e))
					}
					if known := explain(t, lab, tuple); known.Connection == nil || known.Backend != e.Backend {
						t.Fatalf("the connection is not found:\n%s", text(known))
					}
				}
			})
		}
	}
}

// TestExplainGolden: a whole explanation, word for word.
func TestExplainGolden(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	s := nat3()
	s.sched, s.backends[2] = "wlc", "10.0.0.13:8080 0"
	lab.Start(1, config(s))
	got := text(explain(t, lab, asked))
	want := `  steer: to Sluice: 198.51.100.10:80 is a service
  service: client to web (tcp 198.51.100.10:80)
  worker: 0, the only one
  connection: none yet
  schedule: wlc: least connections per weight, active ones counting 256 times as much as inactive ones -> takes 10.0.0.12:8080
  figures: 10.0.0.12:8080 0/1 (0 active, 0 inactive); 10.0.0.11:8080 0/1 (0 active, 0 inactive)
  backend: 10.0.0.13:8080 left out: its weight is 0 (drained)
  next hop: backend 10.0.0.12 by backends, on-link, MAC 02:00:00:00:bb:0c, MTU 1500
  rewrite: tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes -> tcp 192.0.2.7:40000 > 10.0.0.12:8080 [S] 40 bytes
  egress: backends, 54 bytes to 02:00:00:00:bb:0c
  size: packets arrive with up to 1500 bytes, 0 are added, and 1500 fit backends
  return: through this host; 10.0.0.12:8080 was sent 0 packets, 0 came back
  return: client 192.0.2.7 by clients, gateway 203.0.113.1, MAC 02:00:00:00:ff:01, MTU 1500
= forwarded to 10.0.0.12:8080 by backends
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestExplainNoService: the explanation lists the services that there are.
func TestExplainNoService(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3(), svc{name: "dns", port: "53", proto: "udp", backends: []string{"10.0.0.11:53"}}))
	e := explain(t, lab, "tcp 192.0.2.7:40000 198.51.100.10:443")
	says(t, e, "! service: none for tcp port 443: 198.51.100.10 has web (tcp 80), dns (udp 53)", "= passed to the kernel: neither the destination nor the source belongs to a service")
	says(t, explain(t, lab, "tcp 192.0.2.7:40000 198.51.100.99:80"), "! service: none at 198.51.100.99: services are at 198.51.100.10")
	if e.OK {
		t.Error("reported as forwarded")
	}
}

// TestExplainKernel: what passes to the kernel although a backend sends it.
func TestExplainKernel(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3(), svc{name: "dns", port: "53", proto: "udp", backends: []string{"10.0.0.11:53"}}))
	for tuple, lines := range map[string][]string{
		"udp 10.0.0.11:53 224.0.0.251:5353": {
			"  steer: to the kernel: 224.0.0.251 is a multicast address: what backend 10.0.0.11:53 sends to it is not a reply to a client",
			"= passed to the kernel: a nat backend sends to an address that no client has"},
		"udp 10.0.0.11:53 255.255.255.255:67": {"  steer: to the kernel: 255.255.255.255 is the broadcast address: ", "= passed to the kernel"},
		"udp 10.0.0.11:53 127.0.0.1:5353":     {"  steer: to the kernel: 127.0.0.1 is a loopback address: ", "= passed to the kernel"},
		"tcp 10.0.0.11:8080 10.0.0.1:40000": { // the answer to a health check
			"  steer: to the kernel: 10.0.0.1 is an address of this host or a subnet's broadcast address: what backend 10.0.0.11:8080 sends to it is not a reply to a client",
			"= passed to the kernel: a nat backend sends to this host"},
	} {
		e := explain(t, lab, tuple)
		says(t, e, lines...)
		if e.OK {
			t.Errorf("%s is reported as forwarded", tuple)
		}
	}
	says(t, explain(t, lab, "udp 10.0.0.11:53 192.0.2.7:5353"), "  steer: to Sluice: 10.0.0.11:53 is a nat backend, and 192.0.2.7 is not this host")
}

// TestExplainNoNeighbour: the backend does not answer ARP.
func TestExplainNoNeighbour(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.Change(func(s *enginetest.Surroundings) { s.Forget("10.0.0.11") })
	says(t, explain(t, lab, asked),
		"! backend: 10.0.0.11:8080 gets new connections, but cannot be reached: no_neighbour",
		"! next hop: none to backend 10.0.0.11: no_neighbour: no answer to ARP for 10.0.0.11 on backends",
		"= dropped: no_neighbour")
}

// TestExplainUnknownClient checks that explain does not report a neighbour as silent that the
// kernel has not asked for.
func TestExplainUnknownClient(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	const tuple = "tcp 203.0.113.55:40000 -> 198.51.100.10:80"
	e := explain(t, lab, tuple)
	says(t, e, "  return: client 203.0.113.55 by clients: the MAC address of 203.0.113.55 is not known: the kernel has not asked for it yet")
	if !e.OK {
		t.Errorf("trouble is reported:\n%s", text(e))
	}
	lab.Change(func(s *enginetest.Surroundings) { s.Silent = []netip.Addr{netip.MustParseAddr("203.0.113.55")} })
	says(t, explain(t, lab, tuple), "! return: none to client 203.0.113.55: no_neighbour: no answer to ARP for 203.0.113.55 on clients")
}

// TestExplainOneWay checks what explain reports of connections in tun and dr, of which Sluice sees
// the client's packets only: one that hangs, one that is sent again, and one that opens.
func TestExplainOneWay(t *testing.T) {
	for _, mode := range []string{"tun", "dr"} {
		lab := enginetest.New(t, 1, 1)
		lab.Start(1, config(svc{mode: mode, backends: []string{"10.0.0.11:80"}}))
		tuple := fmt.Sprintf("tcp %s -> %s:80", client(1), vip4)
		says(t, explain(t, lab, tuple), "  return: whether replies reach the client is not known")
		lab.Send(enginetest.Clients, 0, opening(1).Frame())
		address, _, _ := strings.Cut(client(1), ":")
		for _, q := range []string{tuple, fmt.Sprintf("tcp %s -> %s:80", address, vip4)} {
			if e := explain(t, lab, q); e.OK {
				t.Errorf("%s: no trouble is reported:\n%s", mode, text(e))
			} else {
				says(t, e, "! return: the client has not acknowledged a SYN-ACK of 10.0.0.11:80")
			}
		}
		lab.Send(enginetest.Clients, 0, opening(1).Flags(ack).Frame())
		e := explain(t, lab, tuple)
		says(t, e, "  return: the client has acknowledged the SYN-ACK of 10.0.0.11:80")
		if mode == "dr" && !e.OK {
			t.Errorf("trouble is reported:\n%s", text(e))
		}
	}
}

// TestExplainNoRoute: neither to the backend, nor back to the client.
func TestExplainNoRoute(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.Change(func(s *enginetest.Surroundings) { s.Routes = nil })
	says(t, explain(t, lab, asked), "! next hop: none to backend 10.0.0.11: no_route", "= dropped: no_route")
}

// TestExplainMTU: packets that do not fit a tunnel.
func TestExplainMTU(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{mode: "tun", backends: []string{"10.0.0.11:80"}}))
	e := explain(t, lab, asked)
	says(t, e, "! size: a full packet of 1500 bytes becomes 1520, and 1500 fit backends: packets of more than 1480 bytes",
		"= forwarded to 10.0.0.11:80 by backends, but see the marked lines",
		"  rewrite: tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 40 bytes -> ipip 10.0.0.1 > 10.0.0.11: tcp 192.0.2.7:40000 > 198.51.100.10:80 [S] 60 bytes")
	q, _ := api.ParseTuple(asked)
	q.Bytes = 1500
	full, err := lab.Engine.Explain(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	says(t, full, "= answered: ICMP fragmentation needed, mtu 1480")
}

// TestExplainNoBackend: all drained.
func TestExplainNoBackend(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{sched: "mh", backends: []string{"10.0.0.11:8080 0"}}))
	says(t, explain(t, lab, asked),
		"  schedule: mh: Maglev hash of the client address: no backend may take a new connection",
		"  backend: 10.0.0.11:8080 left out: its weight is 0", "= answered: ICMP port unreachable: service has no usable backend")
}

// TestExplainQueues: the interface has more queues than the engine uses.
func TestExplainQueues(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	lab.AddUnusedQueues(2, 77)
	says(t, explain(t, lab, asked), "! queues: clients has 4 RX queues and Sluice uses 2: frames for a service on the others are dropped (77 so far)")
}

// TestExplainReturnPath: packets are sent to the backend and none comes back.
func TestExplainReturnPath(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	in := packettest.TCP("192.0.2.7:40000", vip4+":80").Flags(syn)
	lab.Send(enginetest.Clients, 0, in.Frame())
	for _, tuple := range []string{asked, "tcp 192.0.2.7 198.51.100.10:80", "tcp 192.0.2.9 198.51.100.10:80"} {
		e := explain(t, lab, tuple)
		says(t, e, "! return: 10.0.0.11:8080 was sent 1 packet and none came back: the backend's default route must lead through this host")
	}
	says(t, explain(t, lab, "tcp 192.0.2.7 198.51.100.10:80"), "  client: has 1 connection to the service, 1 of them without a reply: one of those is assumed")
	lab.Send(enginetest.Backends, 0, packettest.TCP("10.0.0.11:8080", "192.0.2.7:40000").Flags(syn|ack).Frame())
	e := explain(t, lab, asked)
	says(t, e, "  return: through this host; 10.0.0.11:8080 was sent 1 packet, 1 came back", "= forwarded to 10.0.0.11:8080 by backends")
	says(t, e, "  connection: SYN_RECV, backend 10.0.0.11:8080 by nat, expires in ")
	if !strings.Contains(text(e), "replies seen") {
		t.Error(text(e))
	}
	back := explain(t, lab, "tcp 10.0.0.11:8080 -> 192.0.2.7:40000")
	says(t, back, "  steer: to Sluice: 10.0.0.11:8080 is a nat backend", "  service: backend of web (tcp 198.51.100.10:80) to its client",
		"  rewrite: tcp 10.0.0.11:8080 > 192.0.2.7:40000 [.] 40 bytes -> tcp 198.51.100.10:80 > 192.0.2.7:40000 [.] 40 bytes",
		"= forwarded to the client by clients")
	lost := explain(t, lab, "tcp 10.0.0.11:8080 -> 192.0.2.7:40001")
	says(t, lost, "! connection: none from 192.0.2.7:40001 to backend 10.0.0.11:8080",
		"= answered: tcp 192.0.2.7:40001 > 10.0.0.11:8080 [R] 40 bytes: packet belongs to no connection")
}

// TestExplainForgetsTheCured checks that a client's connection without a reply counts only until a
// later one has one.
func TestExplainForgetsTheCured(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	open := func(port string) {
		lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:"+port, vip4+":80").Flags(syn).Frame())
	}
	open("40000")
	says(t, explain(t, lab, "tcp 192.0.2.7 198.51.100.10:80"), "  client: has 1 connection to the service, 1 of them without a reply: one of those is assumed")
	open("40001")
	lab.Await("a new connection to be assumed", func() bool {
		lab.Send(enginetest.Backends, 0, packettest.TCP("10.0.0.11:8080", "192.0.2.7:40001").Flags(syn|ack).Frame())
		e := explain(t, lab, "tcp 192.0.2.7 198.51.100.10:80")
		return e.OK && strings.Contains(text(e), "has 2 connections to the service: a new one is assumed")
	})
}

// TestExplainFullNATTakesNoPort: explaining again and again uses no port of a SNAT pool.
func TestExplainFullNATTakesNoPort(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{mode: "fullnat", extra: `source = ["10.0.0.1"]`, backends: []string{"10.0.0.11:8080"}}))
	first := explain(t, lab, asked)
	for range 50 {
		if e := explain(t, lab, asked); text(e) != text(first) {
			t.Fatal(cmp.Diff(text(first), text(e)))
		}
	}
	out := one(t, lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:40000", vip4+":80").Flags(syn).Frame()))
	want := fmt.Sprintf("tcp 10.0.0.1:%d > 10.0.0.11:8080 [S]", parse(t, out.Frame).SrcPort)
	if !strings.Contains(text(first), want) {
		t.Errorf("sent %s, explained\n%s", want, text(first))
	}
	says(t, explain(t, lab, asked), "  connection: SYN_RECV, backend 10.0.0.11:8080 by fullnat")
}

// TestExplainPersistence: the template decides.
func TestExplainPersistence(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	s := nat3()
	s.extra = `persistence = "5m"`
	lab.Start(1, config(s))
	lab.Send(enginetest.Clients, 0, packettest.TCP("192.0.2.7:40000", vip4+":80").Flags(syn).Frame())
	says(t, explain(t, lab, "tcp 192.0.2.7:40001 198.51.100.10:80"), "  schedule: persistence binds the client to 10.0.0.13:8080")
}

// offline returns a balancer with the lab's configuration and no workers.
func offline(t *testing.T, lab *enginetest.Lab) *inspect.Offline {
	t.Helper()
	cfg, _, err := lab.Load()
	if err != nil {
		t.Fatal(err)
	}
	box, err := engine.NewOffline(cfg, engine.OfflineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// TestOfflineForgets: expired connections no longer count, wherever in the table they are.
func TestOfflineForgets(t *testing.T) {
	t.Parallel()
	lab, s := enginetest.New(t, 1, 1), nat3()
	s.sched = "lc"
	lab.Start(1, config(s))
	box := offline(t, lab)
	for n := range 60 {
		box.Process(opening(n).Frame(), 0)
	}
	box.Process(packettest.TCP(client(1), vip4+":80").Frame(), time.Hour)
	q, _ := api.ParseTuple(asked)
	e, err := box.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	says(t, e, "  figures: 10.0.0.13:8080 0 (0 active, 0 inactive); 10.0.0.12:8080 0 (0 active, 0 inactive); 10.0.0.11:8080 0 (0 active, 0 inactive)")
}

// TestExplainOffline: from the configuration alone.
func TestExplainOffline(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	box := offline(t, lab)
	q, _ := api.ParseTuple(asked)
	e, err := box.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	says(t, e, "  schedule: rr: round robin over 3 backends, latest added first, from the head of the list -> takes 10.0.0.13:8080",
		"= forwarded to 10.0.0.13:8080 by backends")
}

// TestSimulateSteers: a simulated frame reaches the pipeline only if the XDP program would send it
// to Sluice. The kernel gets all others, and from the pipeline what belongs to no connection.
func TestSimulateSteers(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3(), svc{name: "dns", port: "53", proto: "udp", backends: []string{"10.0.0.11:53"}}))
	const backend, router, resolver = "10.0.0.11:53", "203.0.113.99", "192.0.2.7:5353"
	group := packettest.UDP("192.0.2.7:5353", vip4+":53").MACs(packettest.NeighbourMAC, [6]byte{1, 0, 0x5e, 0, 0, 0xfb})
	for name, c := range map[string]struct {
		packet packettest.Packet
		// the beginning of the step; "" means that the frame reaches the pipeline by it
		want string
	}{
		"to the service":                 {packettest.UDP(resolver, vip4+":53"), "to Sluice: 198.51.100.10:53 is a service"},
		"tagged":                         {packettest.UDP(resolver, vip4+":53").VLAN(7), "to Sluice: 198.51.100.10:53 is a service"},
		"tagged twice":                   {packettest.UDP(resolver, vip4+":53").VLAN(7, 8), "to the kernel: the frame carries neither IPv4 nor IPv6, or has more than one VLAN tag"},
		"to a group MAC address":         {group, "to the kernel: the destination or the source MAC address is a group address"},
		"first fragment":                 {packettest.UDP(resolver, vip4+":54").Fragment(0, true), "to the kernel: neither 198.51.100.10:54 nor 192.0.2.7:5353 belongs to a service"},
		"later fragment":                 {packettest.UDP(resolver, vip4+":53").Fragment(8, false), "to Sluice: it comes before the first fragment of its packet"},
		"fragment to another host":       {packettest.UDP(resolver, "198.51.100.99:53").Fragment(8, false), "to the kernel: it is not the first fragment"},
		"a reply's first fragment":       {packettest.UDP(backend, resolver).Fragment(0, true), "to Sluice: 10.0.0.11:53 is a nat backend, and 192.0.2.7 is not this host"},
		"a backend's multicast":          {packettest.UDP(backend, "224.0.0.251:5353"), "to the kernel: 224.0.0.251 is a multicast address"},
		"error about a reply":            {packettest.ICMP(router, vip4, 3, 4, 1400, packettest.UDP(vip4+":53", resolver).IP()), "to Sluice: an ICMP error about a packet from 198.51.100.10:53 to 192.0.2.7:5353: 198.51.100.10:53 is a service"},
		"error about a request":          {packettest.ICMP("10.0.0.11", "192.0.2.7", 3, 3, 0, packettest.UDP(resolver, backend).IP()), "to Sluice: an ICMP error about a packet from 192.0.2.7:5353 to 10.0.0.11:53: 10.0.0.11:53 is a nat backend"},
		"error about another connection": {packettest.ICMP(router, vip4, 3, 4, 1400, packettest.UDP(vip4+":99", resolver).IP()), "to the kernel: an ICMP error about a packet from 198.51.100.10:99 to 192.0.2.7:5353: neither 198.51.100.10:99 nor 192.0.2.7:5353 belongs to a service"},
		"error to the wrong host":        {packettest.ICMP(router, "198.51.100.99", 3, 4, 1400, packettest.UDP(vip4+":53", resolver).IP()), "to the kernel: the ICMP error quotes a packet that its receiver did not send"},
		"echo":                           {packettest.ICMP(router, vip4, 8, 0, 1, nil), "to the kernel: the ICMP message is not an error"},
	} {
		e := offline(t, lab).Process(c.packet.Frame(), 0)
		if len(e.Steps) == 0 || e.Steps[0].Stage != "steer" || !strings.HasPrefix(e.Steps[0].Text, c.want) {
			t.Errorf("%s: steps %+v, want one that begins with %q", name, e.Steps, c.want)
		}
		stray := name == "error about a request" // the pipeline has no connection for it
		if passed := stray || strings.HasPrefix(c.want, "to the kernel"); passed != (e.Verdict == "pass") || passed != strings.HasPrefix(e.Text, "passed to the kernel: ") {
			t.Errorf("%s: verdict %s, %s", name, e.Verdict, e.Text)
		}
	}
}

// TestExplainLimits checks that explain names the limit that a new connection would exceed, changes
// no count, and says where the connection goes.
func TestExplainLimits(t *testing.T) {
	t.Parallel()
	const sorry = "[service.sorry]\naddress = \"10.0.0.13\"\nport = 8080\n"
	service := func(port, limits string) svc {
		return svc{name: "p" + port, port: port, extra: "[service.limits]\n" + limits, backends: []string{"10.0.0.11:80" + port}}
	}
	lab := enginetest.New(t, 2, 1)
	lab.Start(2, config(service("81", "connections = 3\n"), service("82", "new_per_second = 3\n"), service("83", "source_connections = 3\nsource_prefix4 = 24\n"),
		service("84", "source_new_per_second = 3\n"), service("85", "connections = 3\n"+sorry), service("86", "unproven = 0.01\n"))+
		config(svc{name: "p87", port: "87", backends: []string{"10.0.0.12:8080"}})+"max_connections = 3\n")
	said := func(port string) string {
		return text(explain(t, lab, "tcp 192.0.2.7:40000 -> "+vip4+":"+port))
	}
	for port := 81; port <= 87; port++ {
		if got := said(fmt.Sprint(port)); strings.Contains(got, "limit: ") || strings.Contains(got, "table: ") || !strings.Contains(got, "= forwarded to 10.0.0.1") {
			t.Errorf("before:\n%s", got)
		}
	}
	for port, want := range map[string]string{
		"81": "! limit: the service has as many connections as it may ([service.limits] connections = 3): it is dropped as limited\n",
		"82": "! limit: the service had as many new connections within a second as it may ([service.limits] new_per_second = 3): it is dropped as limited\n",
		"83": "! limit: 192.0.2.0/24 has as many connections to the service as it may ([service.limits] source_connections = 3): it is dropped as limited\n",
		"84": "! limit: 192.0.2.7 had as many new connections within a second as it may ([service.limits] source_new_per_second = 3): it is dropped as limited\n",
		"85": "! limit: the service has as many connections as it may ([service.limits] connections = 3): it goes to the sorry server, 10.0.0.13:8080\n",
		"86": "  table: no free entry for the service (sluice status): it takes the place of a connection that is unproven or has ended; ",
		"87": "! limit: all backends that could take it have as many connections as they may (max_connections): it is dropped as limited\n",
	} {
		got, told := "", false
		for try := range 100 { // for those per second the machine may be too slow
			most := 4
			if port == "86" { // a hundredth is 163: each worker is to see so many
				most = 600
			}
			for n := range most {
				lab.Arrive(enginetest.Clients, packettest.TCP(fmt.Sprint("192.0.2.7:", 2000+most*try+n), vip4+":"+port).Flags(syn).Frame())
			}
			lab.Quiet()
			lab.Collect()
			if got, told = said(port), false; strings.Contains("\n"+got, "\n"+want) {
				told = true
				break
			}
		}
		if !told {
			t.Errorf("port %s: no %q in\n%s", port, want, got)
		}
	}
	if got := said("87"); !strings.Contains(got, "  backend: 10.0.0.12:8080 left out: it has as many connections as it may (max_connections = 3)\n") {
		t.Error(got)
	}
}
