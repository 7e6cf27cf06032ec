package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// web returns the endpoint of the path's HTTP service.
func web(p testbed.Path) string {
	return netip.AddrPortFrom(p.Address(), testbed.WebPort).String()
}

// explained runs the command until its output has a line that begins with the given text.
func explained(t *testing.T, d *testbed.Daemon, line string, words ...string) {
	t.Helper()
	poll(t, "explain "+strings.Join(words, " "), func() error {
		out, err := d.Verb(ctxOf(t), append([]string{"explain"}, words...)...)
		if err == nil && !strings.Contains("\n"+out, "\n"+line) {
			err = fmt.Errorf("no line begins with %q:\n%s", line, out)
		}
		return err
	})
}

// single returns a configuration of the path's HTTP service with the first backend alone.
func single(t *testing.T, p testbed.Path) testbed.Config {
	t.Helper()
	cfg := config(t, p)
	cfg.Services = cfg.Services[:1]
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	return cfg
}

// TestExplainDown: no service here; a backend that is down.
func TestExplainDown(t *testing.T) {
	b := bed(t)
	d := start(t, b, healthChecked(t, nat4))
	awaitStates(t, d, "up up up")
	client := nat4.Client().String()
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 3), [3]int{1, 1, 1})
	explained(t, d, "= verdict     forwarded to 10.2.0.1", "tcp", client, web(nat4))
	explained(t, d, "! service     none for tcp port 81: 198.51.100.10 has web-nat4 (tcp 80)", "tcp", client, "198.51.100.10:81")
	explained(t, d, "! service     none at 198.51.100.99: services are at 198.51.100.10", "tcp", client, "198.51.100.99:80")
	dies(t, b, 1)
	explained(t, d, "! backend     10.2.0.12:8080 left out: down for ", "tcp", client, web(nat4))
}

// TestExplainNoNeighbour: no host has the backend's address. It is down after a few seconds.
func TestExplainNoNeighbour(t *testing.T) {
	b := bed(t)
	cfg := single(t, nat4)
	cfg.Services[0].Backends[0].Address = "10.2.0.99"
	d := start(t, b, cfg)
	client := nat4.Client().String()
	explained(t, d, "! backend     10.2.0.99:8080 left out: down for ", "tcp", client, web(nat4))
	out, err := d.Verb(ctxOf(t), "explain", "tcp", client, web(nat4))
	must(t, err)
	if !strings.Contains(out, ": 10.2.0.99 on eth1 does not answer ARP") {
		t.Errorf("the cause is missing:\n%s", out)
	}
}

// TestExplainTunnelMTU: full packets don't fit the tunnel.
func TestExplainTunnelMTU(t *testing.T) {
	b := bed(t)
	p := testbed.Paths[1]
	d := start(t, b, single(t, p))
	client := p.Client().String()
	explained(t, d, "! size        a full packet of 1500 bytes becomes 1520, and 1500 fit eth1", "tcp", client, web(p))
	explained(t, d, "! verdict     answered: ICMP fragmentation needed, mtu 1480", "tcp", client, web(p), "--bytes", "1500")
}

// TestExplainReturnPath: the backend's answers go to the client past the balancer.
func TestExplainReturnPath(t *testing.T) {
	b := bed(t)
	d := start(t, b, single(t, nat4))
	past := func(do func(dst, via string) error) error { return do("192.0.2.0/24", "10.2.0.254") }
	must(t, past(b.Backends[0].Host.Route))
	t.Cleanup(func() { must(t, past(b.Backends[0].Host.RouteDel)) })
	// Long enough for the first segment on a busy machine: no answer ever comes.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if c, err := b.Client.Dial(ctx, "tcp", web(nat4)); err == nil {
		c.Close()
		t.Fatal("the client is connected: the test's premise is wrong")
	}
	explained(t, d, "! return      10.2.0.11:8080 was sent ", "tcp", nat4.Client().String(), web(nat4))
	explained(t, d, "  client      has 1 connection to the service, 1 of them without a reply", "tcp", nat4.Client().String(), web(nat4))
}

// TestExplainQueues: an interface has a queue that the configuration excludes.
func TestExplainQueues(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-queues", Queues: 2})
	cfg := single(t, nat4)
	cfg.Ports[0].Queues, cfg.Ports[1].Queues = []int{0}, []int{0}
	d := start(t, b, cfg)
	explained(t, d, "! queues      eth0 has 2 RX queues and Sluice uses 1", "tcp", nat4.Client().String(), web(nat4))
}

// TestTraceRealTraffic: everything of a request is shown, in both directions.
func TestTraceRealTraffic(t *testing.T) {
	b := bed(t)
	d := start(t, b, single(t, nat4))
	ctx, cancel := context.WithCancel(ctxOf(t))
	defer cancel()
	started, events, ended := make(chan struct{}), make(chan api.TraceEvent, 1<<12), make(chan error, 1)
	go func() {
		_, err := d.API.Trace(ctx, api.TraceQuery{Filter: "host " + nat4.Client().String(), Started: func() { close(started) }},
			func(e api.TraceEvent) error { events <- e; return nil })
		ended <- err
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	wantSpread(t, b.Ask(ctx, nat4.URL(), 1), [3]int{1, 0, 0})
	_, err := d.Quiet(ctx)
	must(t, err)
	opened, forth, back := false, 0, 0
	for forth < 4 || back < 3 { // SYN, ACK, request, FIN; SYN-ACK, answer, FIN
		select {
		case e := <-events:
			if e.Verdict != "forward" || e.Service != "web-nat4" || e.Backend != "10.2.0.11:8080" {
				t.Fatalf("seen: %+v", e)
			}
			if e.Port == testbed.Front && e.OutPort == testbed.Back {
				forth++
			} else if e.Port == testbed.Back && e.OutPort == testbed.Front {
				back++
			}
			for _, s := range e.Steps {
				opened = opened || s.Stage == "connection" && strings.HasPrefix(s.Text, "new: SYN_RECV, backend 10.2.0.11:8080")
			}
		case <-ctx.Done():
			t.Fatalf("%d packets forth and %d back are seen", forth, back)
		}
	}
	if !opened {
		t.Error("no packet is said to open the connection")
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestCaptureRealTraffic: a file by the command, each packet before and after.
func TestCaptureRealTraffic(t *testing.T) {
	b := bed(t)
	tun4 := testbed.Paths[1]
	d := start(t, b, config(t, nat4, tun4))
	// nat: SYN, ACK, request, FIN; SYN-ACK, answer, FIN; tun: the first four.
	const atLeast = 3*(4+3) + 3*4
	path := filepath.Join(t.TempDir(), "both.pcapng")
	p, err := b.Balancer.Start(exec.Command(sluice, "capture", "-w", path, "--socket", d.Socket, "--count", fmt.Sprint(atLeast), "tcp"))
	must(t, err)
	_, err = p.WaitLine(ctxOf(t), "capturing")
	must(t, err)
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 3), [3]int{1, 1, 1})
	wantSpread(t, b.Ask(ctxOf(t), tun4.URL(), 3), [3]int{1, 1, 1})
	must(t, p.Wait())
	file, err := os.Open(path)
	must(t, err)
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	must(t, err)
	pairs := map[string]int{}
	for {
		in, name, err := captured(r)
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		out, outName, err := captured(r)
		must(t, err)
		pairs[name+" - "+outName]++
		comparePair(t, in, out)
	}
	if pairs["eth0 in - eth1 out"]+pairs["eth1 in - eth0 out"] != atLeast || len(pairs) != 2 {
		t.Errorf("the file has pairs %v", pairs)
	}
}

// captured reads a packet and the name of its interface.
func captured(r *pcapgo.NgReader) (p gopacket.Packet, name string, err error) {
	data, info, err := r.ReadPacketData()
	if err != nil {
		return nil, "", err
	}
	of, err := r.Interface(info.InterfaceIndex)
	return gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default), of.Name, err
}

// comparePair checks that two packets are one packet before and after rewriting: the same segment,
// between other endpoints.
func comparePair(t *testing.T, in, out gopacket.Packet) {
	t.Helper()
	last := func(p gopacket.Packet) (ip *layers.IPv4, tcp *layers.TCP) {
		for _, l := range p.Layers() {
			if l, ok := l.(*layers.IPv4); ok {
				ip = l
			}
		}
		tcp, _ = p.TransportLayer().(*layers.TCP)
		return ip, tcp
	}
	ip, tcp := last(in)
	outIP, outTCP := last(out)
	if tcp == nil || outTCP == nil {
		t.Fatalf("not TCP:\n%s\n%s", in, out)
	}
	if tcp.Seq != outTCP.Seq || tcp.Ack != outTCP.Ack || string(tcp.Payload) != string(outTCP.Payload) || outIP.TTL != ip.TTL-1 {
		t.Errorf("before and after are two packets:\n%s\n%s", in, out)
	}
	tunnel := outIP != out.NetworkLayer()
	if changed := ip.SrcIP.String() != outIP.SrcIP.String() || ip.DstIP.String() != outIP.DstIP.String(); changed == tunnel {
		t.Errorf("in a tunnel: %v; addresses changed: %v:\n%s\n%s", tunnel, changed, in, out)
	}
	if !tunnel {
		rightChecksums(t, out)
	}
}
