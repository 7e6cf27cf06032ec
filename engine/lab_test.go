package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/tools/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// slow skips a test that takes more than a quarter of a second when only short tests are to run.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("not with -short")
	}
}

// TCP flags.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// Virtual addresses.
const (
	vip4 = "198.51.100.10"
	vip6 = "2001:db8:1::10"
)

// svc is a service of a configuration, with defaults for what is left out: TCP port 80 of vip4,
// nat, rr.
type svc struct {
	name, vip, port, proto, mode, sched string
	extra                               string // further lines
	// "10.0.0.11:8080", with a weight behind a blank if it isn't 1
	backends []string
}

// config puts services into the text of a configuration.
func config(services ...svc) string {
	var b strings.Builder
	for _, s := range services {
		fmt.Fprintf(&b, "[[service]]\nname = %q\naddress = %q\nport = %q\nprotocol = %q\nmode = %q\nscheduler = %q\n%s\n",
			or(s.name, "web"), or(s.vip, vip4), or(s.port, "80"), or(s.proto, "tcp"), or(s.mode, "nat"), or(s.sched, "rr"), s.extra)
		for _, backend := range s.backends {
			end, weight, _ := strings.Cut(backend, " ")
			port := ""
			if p := packettest.Port(end); p != 0 {
				port = fmt.Sprintf("port = %d\n", p)
			}
			fmt.Fprintf(&b, "[[service.backend]]\naddress = %q\n%sweight = %s\n", packettest.Addr(end), port, or(weight, "1"))
		}
	}
	return b.String()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// nat3 is a NAT service with three backends.
func nat3() svc {
	return svc{backends: []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"}}
}

// client names the n-th of many clients' ends.
func client(n int) string { return fmt.Sprintf("192.0.%d.%d:%d", 2+n/50000, 1+n%250, 1024+n%50000) }

// opening is the first packet of a client's connection to the service at vip4 port 80.
func opening(n int) packettest.Packet {
	return packettest.TCP(client(n), vip4+":80").Flags(syn).Seq(uint32(n), 0).Payload(nil)
}

// backendOf is the destination of a frame, without its port.
func backendOf(t *testing.T, frame []byte) string {
	t.Helper()
	m := parse(t, frame)
	return m.Dst.String()
}

// one is the only frame of those sent.
func one(t *testing.T, sent []enginetest.Sent) enginetest.Sent {
	t.Helper()
	if len(sent) != 1 {
		t.Fatalf("%d frames were sent, want 1: %+v", len(sent), sent)
	}
	return sent[0]
}

// expect compares a frame that was sent with the one wanted, port included.
func expect(t *testing.T, got enginetest.Sent, port int, want packettest.Packet) {
	t.Helper()
	if got.Port != port {
		t.Errorf("sent by port %d, want %d", got.Port, port)
	}
	if diff := packettest.Diff(want.Frame(), got.Frame); diff != "" {
		t.Error(diff)
	}
}

// toBackend puts on a packet the MAC addresses that lead to host n.
func toBackend(p packettest.Packet, n int) packettest.Packet {
	return p.MACs(enginetest.PortMAC(enginetest.Backends), enginetest.HostMAC(n))
}

// toClient puts on a packet the MAC addresses that lead to the clients' router.
func toClient(p packettest.Packet) packettest.Packet {
	return p.MACs(enginetest.PortMAC(enginetest.Clients), enginetest.RouterMAC)
}

// dropped checks that of all drop reasons exactly this one has counted, n times.
func dropped(t *testing.T, s api.Stats, reason string, n uint64) {
	t.Helper()
	for name, count := range s.Drops {
		if name == reason && count != n || name != reason && count != 0 {
			t.Errorf("dropped %d as %s; want %d as %s", count, name, n, reason)
		}
	}
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

// ipv4 reads an address from a frame.
func ipv4(b []byte) string { return netip.AddrFrom4([4]byte(b)).String() }
