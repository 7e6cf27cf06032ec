package steer_test

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/engine/steer"
)

// probeCases are answers to probes that took the path of tun or dr, and packets that resemble them.
func probeCases(t testing.TB, f family) []testCase {
	quote := func(source, destination string, sourcePort layers.UDPPort) []byte {
		return build(t, ip(source, destination, pUDP), udp(sourcePort, 53), gopacket.Payload("payload"))
	}
	unreachable := uint8(3)
	if f.name == "v6" {
		unreachable = 1
	}
	return []testCase{
		{"probe: answer", packet(t, ip(f.web, f.h, pTCP), tcp(80, 28672)), redirect},
		{"probe: answer, last port", packet(t, ip(f.web, f.h, pTCP), tcp(80, 32767)), redirect},
		{"probe: answer, UDP", packet(t, ip(f.any, f.h, pUDP), udp(53, 30000)), redirect},
		{"probe: the host's own connection", packet(t, ip(f.web, f.h, pTCP), tcp(80, 32768)), pass},
		{"probe: port below", packet(t, ip(f.web, f.h, pTCP), tcp(80, 28671)), pass},
		{"probe: not probed port", packet(t, ip(f.web, f.h, pTCP), tcp(8000, 30000)), pass},
		{"probe: not probed protocol", packet(t, ip(f.web, f.h, pUDP), udp(80, 30000)), pass},
		{"probe: not probed address", packet(t, ip(f.client, f.h, pTCP), tcp(80, 30000)), pass},
		{"probe: of a NAT backend", packet(t, ip(f.b, f.h, pTCP), tcp(8080, 30000)), pass},
		{"probe: to an address without probes", packet(t, ip(f.web, f.l, pTCP), tcp(80, 31000)), pass},
		{"probe: to a client", packet(t, ip(f.web, f.client, pTCP), tcp(80, 30000)), pass},
		// to a service, as from any source
		{"probe: on its way", packet(t, ip(f.h, f.web, pTCP), tcp(30000, 80)), drop},
		{"probe: error", icmp(t, f.any, f.h, unreachable, quote(f.h, f.any, 30000)), redirect},
		{"probe: error, the host's own", icmp(t, f.any, f.h, unreachable, quote(f.h, f.any, 40000)), pass},
		{"probe: error, not to its sender", icmp(t, f.any, f.l, unreachable, quote(f.h, f.any, 30000)), pass},
		{"probe: tagged", build(t, ether(layers.EthernetTypeDot1Q), tag(typeOf(f)), ip(f.web, f.h, pTCP), tcp(80, 30000)), redirect},
	}
}

func typeOf(f family) layers.EthernetType {
	if f.name == "v6" {
		return layers.EthernetTypeIPv6
	}
	return layers.EthernetTypeIPv4
}

// TestProbeFragments: fragments of answers pass to the kernel, the first one too.
func TestProbeFragments(t *testing.T) {
	port, decider := testPort(t), steer.NewDecider(testRules())
	first := packet(t, fragment4(any4, h4, pUDP, 0, true), udp(53, 30000), gopacket.Payload("abcdefgh"))
	if got := actionOf(t, port, first); got != pass || decider.Decide(first).Target != steer.Kernel {
		t.Errorf("action %d for the first fragment of an answer, want %d", got, pass)
	}
}

// TestDetour: without an interface answers to probes pass to the kernel; each counts once.
func TestDetour(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	if err := program.Set(testRules()); err != nil {
		t.Fatal(err)
	}
	lo := loopback(t)
	port := attach(t, program, lo, steer.Generic)
	answer := packet(t, ip(web4, h4, pTCP), tcp(80, 30000))
	if got := actionOf(t, port, answer); got != pass {
		t.Errorf("action %d without an interface, want %d", got, pass)
	}
	if err := program.Detour(lo.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	if got := actionOf(t, port, answer); got != redirect {
		t.Errorf("action %d, want %d", got, redirect)
	}
	got, err := port.Counters()
	if want := (steer.Counters{Passed: 1, Detoured: 1}); err != nil || got != want {
		t.Errorf("counters %+v (%v), want %+v", got, err, want)
	}
	if err := program.Detour(1 << 20); err == nil {
		t.Error("an interface that does not exist returns no error")
	}
}
