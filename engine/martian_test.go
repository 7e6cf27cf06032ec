package engine_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// exchange puts datagrams on the backends' wire, where all backends echo, until nothing moves. It
// returns how many frames the engine sent; more than 100 are an exchange that does not end.
func exchange(t *testing.T, lab *enginetest.Lab, frames ...[]byte) (sent int) {
	t.Helper()
	for len(frames) > 0 && sent < 100 {
		out := lab.Send(enginetest.Backends, 0, frames...)
		frames = nil
		for _, s := range out {
			sent++
			frames = append(frames, echo(t, s.Frame))
		}
	}
	return sent
}

// echo returns the datagram with which an echo server answers a frame.
func echo(t *testing.T, frame []byte) []byte {
	t.Helper()
	p := gopacket.NewPacket(bytes.Clone(frame), layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.NetworkLayer().(*layers.IPv4)
	udp, isUDP := p.TransportLayer().(*layers.UDP)
	if !ok || !isUDP {
		t.Fatalf("the engine sent %s", p)
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip.DstIP)), uint16(udp.DstPort))
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip.SrcIP)), uint16(udp.SrcPort))
	return packettest.UDP(from.String(), to.String()).Frame()
}

// TestNoEchoForEver: no single datagram starts an exchange between echo servers that does not end:
// neither from one VIP to another, nor with a backend's endpoint as its source. Without the check
// for martians both would go on for ever.
func TestNoEchoForEver(t *testing.T) {
	for _, mode := range []string{"nat", "fullnat"} {
		extra := ""
		if mode == "fullnat" {
			extra = `source = ["10.0.0.2"]`
		}
		lab := enginetest.New(t, 1, 1)
		lab.Start(1, config(
			svc{name: "one", vip: "198.51.100.10", port: "53", proto: "udp", mode: mode, extra: extra, backends: []string{"10.0.0.11:53"}},
			svc{name: "two", vip: "198.51.100.11", port: "53", proto: "udp", mode: mode, extra: extra, backends: []string{"10.0.0.12:53", "10.0.0.13:53"}},
			svc{name: "any", vip: "198.51.100.12", port: "5000-5999", proto: "udp", mode: mode, extra: extra, backends: []string{"10.0.0.14"}},
		))
		sources := []string{"198.51.100.10:53", "198.51.100.11:53", "198.51.100.12:5005", "10.0.0.11:53", "10.0.0.12:53", "10.0.0.13:53", "10.0.0.14:5005",
			enginetest.Tunnel4 + ":53"}
		if mode == "fullnat" {
			sources = append(sources, "10.0.0.2:1024")
		}
		dropped := uint64(0)
		for _, from := range sources {
			for _, to := range []string{"198.51.100.10:53", "198.51.100.11:53", "198.51.100.12:5000"} {
				if n := exchange(t, lab, packettest.UDP(from, to).Frame()); n > 0 {
					t.Errorf("%s: a datagram from %s to %s makes the engine send %d", mode, from, to, n)
				}
				dropped++
			}
		}
		if n := lab.Stats().Drops["martian"]; n != dropped {
			t.Errorf("%s: %d martians of %d: %v", mode, n, dropped, lab.Stats().Drops)
		}
		// A client is served, and in fullnat a backend that asks from another port.
		clients := []string{"192.0.2.7:4000"}
		if mode == "fullnat" {
			clients = append(clients, "10.0.0.11:4000")
		}
		for _, from := range clients {
			forwarded := one(t, lab.Send(enginetest.Backends, 0, packettest.UDP(from, "198.51.100.10:53").Frame()))
			one(t, lab.Send(enginetest.Backends, 0, echo(t, forwarded.Frame)))
		}
	}
}

// TestForgedFrame: one datagram from a VIP to the next, as it arrived on the wire.
func TestForgedFrame(t *testing.T) {
	frame, err := hex.DecodeString("0200000001020200000001010800450000200001000040112650c633640ac633640b00350035000ccf0f6c6f6f70")
	if err != nil {
		t.Fatal(err)
	}
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(
		svc{name: "one", vip: "198.51.100.10", port: "53", proto: "udp", backends: []string{"10.0.0.11:53"}},
		svc{name: "two", vip: "198.51.100.11", port: "53", proto: "udp", backends: []string{"10.0.0.12:53"}},
	))
	if n := exchange(t, lab, frame); n != 0 {
		t.Errorf("the engine sent %d frames", n)
	}
	dropped(t, lab.Stats(), "martian", 1)
}

// TestMartiansAreExplained: explain says what the source is.
func TestMartiansAreExplained(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(
		svc{name: "web", port: "80", backends: []string{"10.0.0.11:80", "10.0.0.12:80 0"}},
		svc{name: "dns", vip: "198.51.100.11", port: "53", proto: "udp", backends: []string{"10.0.0.13:53"}},
	))
	for _, c := range []struct{ from, to, verdict, says string }{
		{"198.51.100.11:4000", "198.51.100.10:80", "martian", "198.51.100.11 is the address of dns: no client has it"},
		{enginetest.Own4 + ":4000", "198.51.100.10:80", "martian", enginetest.Own4 + " is an address of this host"},
		{"203.0.113.255:4000", "198.51.100.10:80", "martian", "a broadcast address"},
		{"169.254.1.1:4000", "198.51.100.10:80", "martian", "169.254.1.1 is a link-local address, and the backend is on another link"},
		{"10.0.0.13:53", "198.51.100.11:53", "martian", "10.0.0.13:53 is where a backend serves udp"},
		{"10.0.0.12:4000", "198.51.100.10:80", "hairpin", "10.0.0.12 is a backend of the service"},
	} {
		q := api.Tuple{Protocol: service.TCP, From: netip.MustParseAddrPort(c.from), To: netip.MustParseAddrPort(c.to)}
		if strings.HasSuffix(c.to, ":53") {
			q.Protocol = service.UDP
		}
		got, err := lab.Engine.Explain(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(got.Steps); !strings.Contains(text, c.says) || !strings.Contains(got.Verdict, c.verdict) {
			t.Errorf("%s to %s: %s\n%s", c.from, c.to, got.Verdict, text)
		}
	}
}
