package truepath_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	. "sluice/engine/health/truepath"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// The hosts of the tests: the device's addresses and targets, the service, our address, the
// backend.
const (
	device4, target4, vip4, own4, backend4 = "192.0.0.8", "241.7.0.16", "198.51.100.10", "10.0.0.1", "10.0.0.11"
	device6, target6, vip6, own6, backend6 = "fd11::1", "fd11::10", "2001:db8::10", "fd00::1", "fd00::11"
)

var (
	deviceMAC = [6]byte{2, 0, 0, 0, 0, 9}
	ourMAC    = [6]byte{2, 0, 0, 0, 0, 1}
	theirMAC  = [6]byte{2, 0, 0, 0, 0, 2}
	strange   = [6]byte{2, 0, 0, 0, 0, 1}
	start     = time.Unix(1000, 0)
)

// one is a single port for all flows, so that tests know it.
var one = service.Ports{First: 30000, Last: 30000}

func translator(ports service.Ports) *Translator {
	return NewTranslator(ports, netip.MustParseAddr(device4), netip.MustParseAddr(device6), deviceMAC)
}

func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

func at(host, port string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), packettest.Port("0.0.0.0:"+port)).String()
}

// way is one path with its ends.
type way struct {
	name string
	// device, target, vip, own, us and outer are addresses; the last two of the tunnel: ours, the
	// backend's.
	device, target, vip, own, us, outer string
	mode                                service.Mode
	vlan                                uint16
	tunnel                              uint8 // protocol number in the outer header
}

var ways = []way{
	{"dr4", device4, target4, vip4, own4, "", "", service.DR, 0, 0},
	{"dr6", device6, target6, vip6, own6, "", "", service.DR, 0, 0},
	{"dr4 tagged", device4, target4, vip4, own4, "", "", service.DR, 7, 0},
	{"4in4", device4, target4, vip4, own4, own4, backend4, service.TUN, 0, packet.IPIP},
	{"6in6", device6, target6, vip6, own6, own6, backend6, service.TUN, 0, packet.IPv6},
	{"4in6", device4, target4, vip4, own4, own6, backend6, service.TUN, 0, packet.IPIP},
	{"6in4", device6, target6, vip6, own6, own4, backend4, service.TUN, 7, packet.IPv6},
}

func (w way) paths() map[packet.Addr]*Path {
	p := &Path{
		VIP: addr(w.vip), Port: 80, Own: addr(w.own), Mode: w.mode, Ifindex: 3,
		Link: rewrite.Link{SMAC: ourMAC, DMAC: theirMAC, MTU: 1500, VLAN: w.vlan},
	}
	if w.mode == service.TUN {
		p.Outer, p.Backend = addr(w.us), addr(w.outer)
	}
	return map[packet.Addr]*Path{addr(w.target): p}
}

// onWire returns what leaves by the port when the packet is for the backend.
func (w way) onWire(p packettest.Packet) packettest.Packet {
	if w.mode == service.TUN {
		p = packettest.Raw(w.tunnel, w.us, w.outer, p.IP()).TTL(64).ID(1)
		if w.tunnel == packet.IPv6 && packettest.Addr(w.outer).Is4() {
			p = p.DF()
		}
	}
	if w.vlan != 0 {
		p = p.VLAN(w.vlan)
	}
	return p.MACs(ourMAC, theirMAC)
}

func same(t *testing.T, what string, want packettest.Packet, got []byte) {
	t.Helper()
	if diff := packettest.Diff(want.Frame(), got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// protocols are the protocols of probes.
var protocols = map[string]func(src, dst string) packettest.Packet{"tcp": packettest.TCP, "udp": packettest.UDP}

func TestThereAndBack(t *testing.T) {
	for _, w := range ways {
		for name, speak := range protocols {
			t.Run(w.name+" "+name, func(t *testing.T) {
				tr := translator(one)
				out, path, err := tr.Translate(w.paths(), speak(at(w.device, "40000"), at(w.target, "80")).TTL(2).MACs(deviceMAC, deviceMAC).Frame(), start)
				if err != nil || path == nil {
					t.Fatalf("nothing goes to the backend: %v", err)
				}
				same(t, "to the backend", w.onWire(speak(at(w.own, "30000"), at(w.vip, "80")).TTL(1)), out)

				answer := speak(at(w.vip, "80"), at(w.own, "30000")).TTL(61).Payload([]byte("odd"))
				if w.vlan != 0 {
					answer = answer.VLAN(w.vlan)
				}
				in, path, err := tr.Translate(w.paths(), answer.Frame(), start)
				if err != nil || path != nil {
					t.Fatalf("the answer goes to %v: %v", path, err)
				}
				want := speak(at(w.target, "80"), at(w.device, "40000")).TTL(60).Payload([]byte("odd")).MACs(strange, deviceMAC)
				same(t, "to the socket", want, in)
				same(t, "a wrong checksum", want.WrongBy(7), translate(tr, w, answer.WrongBy(7).Frame()))
			})
		}
	}
}

func translate(tr *Translator, w way, frame []byte) []byte {
	out, _, _ := tr.Translate(w.paths(), frame, start)
	return out
}

// TestRefused checks that an ICMP error about a probe quotes to the socket what the socket sent.
func TestRefused(t *testing.T) {
	for _, w := range ways[:2] {
		tr := translator(one)
		translate(tr, w, packettest.UDP(at(w.device, "40000"), at(w.target, "80")).TTL(2).Frame())
		kind, code := uint8(3), uint8(3)
		if w.name == "dr6" {
			kind, code = 1, 4
		}
		quote := packettest.UDP(at(w.own, "30000"), at(w.vip, "80")).TTL(1)
		got := translate(tr, w, packettest.ICMP(w.vip, w.own, kind, code, 0, quote.IP()).Frame())
		quoted := packettest.UDP(at(w.device, "40000"), at(w.target, "80")).TTL(1)
		want := packettest.ICMP(w.target, w.device, kind, code, 0, quoted.IP()).MACs(strange, deviceMAC)
		same(t, w.name, want, got)
	}
}

// TestLeftToHardware checks that a checksum of the pseudo-header only is completed.
func TestLeftToHardware(t *testing.T) {
	for name, speak := range protocols {
		for _, w := range ways[:2] {
			tr := translator(one)
			translate(tr, w, speak(at(w.device, "40000"), at(w.target, "80")).TTL(2).Frame())
			frame := speak(at(w.vip, "80"), at(w.own, "30000")).TTL(61).Payload([]byte("odd")).Frame()
			var m packet.Meta
			packet.Parse(frame, 0, len(frame), &m)
			field := frame[m.L4+6:]
			if m.Proto == packet.TCP {
				field = frame[m.L4+16:]
			}
			pseudo := packet.Sum(0).Pseudo(m.Src, m.Dst, m.Proto, int(m.End-m.L4)).Fold()
			binary.BigEndian.PutUint16(field, pseudo)
			want := speak(at(w.target, "80"), at(w.device, "40000")).TTL(60).Payload([]byte("odd")).MACs(strange, deviceMAC)
			same(t, name+" "+w.name, want, translate(tr, w, frame))
		}
	}
}

// TestUnrelated checks that packets that answer no probe, or were not sent by the host, are
// dropped.
func TestUnrelated(t *testing.T) {
	w := ways[0]
	tr := translator(service.Ports{First: 30000, Last: 30001})
	out := translate(tr, w, packettest.TCP(at(w.device, "40000"), at(w.target, "80")).TTL(2).Frame())
	port := binary.BigEndian.Uint16(out[packet.EthernetLen+packet.IPv4Len:])
	used, unused := "30000", "30001"
	if port == 30001 {
		used, unused = unused, used
	}
	quote := packettest.TCP(at(own4, unused), at(vip4, "80"))
	for name, p := range map[string]packettest.Packet{
		"unused port":          packettest.TCP(at(vip4, "80"), at(own4, unused)),
		"port not ours":        packettest.TCP(at(vip4, "80"), at(own4, "30002")),
		"other service":        packettest.TCP(at("198.51.100.11", "80"), at(own4, used)),
		"other port":           packettest.TCP(at(vip4, "81"), at(own4, used)),
		"other protocol":       packettest.UDP(at(vip4, "80"), at(own4, used)),
		"other destination":    packettest.TCP(at(vip4, "80"), at("10.0.0.2", used)),
		"fragment":             packettest.TCP(at(vip4, "80"), at(own4, used)).Fragment(0, true),
		"no TTL":               packettest.TCP(at(vip4, "80"), at(own4, used)).TTL(0),
		"error of no flow":     packettest.ICMP(vip4, own4, 3, 3, 0, quote.IP()),
		"echo":                 packettest.ICMP(vip4, own4, 8, 0, 0, []byte("ping")),
		"another host's probe": packettest.TCP(at("203.0.113.7", "40000"), at(target4, "80")).TTL(2),
		"to no target":         packettest.TCP(at(device4, "40000"), at("241.7.0.17", "80")).TTL(2),
		"kernel's own error":   packettest.ICMP(device4, target4, 3, 3, 0, packettest.UDP(at(target4, "80"), at(device4, "40000")).IP()),
	} {
		if got := translate(tr, w, p.Frame()); len(got) != 0 {
			t.Errorf("%s: is forwarded as\n%s", name, packettest.Decode(got))
		}
	}
	whole := packettest.TCP(at(vip4, "80"), at(own4, used)).Frame()
	for n := range whole {
		if got := translate(tr, w, whole[:n]); len(got) != 0 {
			t.Errorf("an answer cut to %d bytes is forwarded", n)
		}
	}
}

// TestNoWay checks that a packet that cannot be sent gives an error with the reason.
func TestNoWay(t *testing.T) {
	w := ways[3]
	probe := packettest.UDP(at(w.device, "40000"), at(w.target, "80")).TTL(2).Payload(make([]byte, 1400)).Frame()
	for name, c := range map[string]struct {
		spoil func(*Path)
		want  string
	}{
		"reason":   {func(p *Path) { p.Why = "no neighbour" }, "no neighbour"},
		"too long": {func(p *Path) { p.Link.MTU = 1447 }, "1448 bytes is longer than the path's MTU of 1447"},
		"fits":     {func(p *Path) { p.Link.MTU = 1448 }, ""},
	} {
		paths := w.paths()
		c.spoil(paths[addr(w.target)])
		out, _, err := translator(one).Translate(paths, probe, start)
		if c.want == "" && (err != nil || len(out) == 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPorts checks that sockets have their own ports while ports are free, and that the flow that
// has been quiet for longest is replaced first.
func TestPorts(t *testing.T) {
	const n = 8
	w := ways[0]
	tr := translator(service.Ports{First: 30000, Last: 30000 + n - 1})
	portOf := func(socket string, now time.Time) uint16 {
		out, _, err := tr.Translate(w.paths(), packettest.TCP(at(w.device, socket), at(w.target, "80")).TTL(2).Frame(), now)
		if err != nil {
			t.Fatal(err)
		}
		return binary.BigEndian.Uint16(out[packet.EthernetLen+packet.IPv4Len:])
	}
	sockets := []string{"40000", "40001", "40002", "40003", "40004", "40005", "40006", "40007"}
	ports := map[uint16]string{}
	for _, s := range sockets {
		ports[portOf(s, start)] = s
	}
	if len(ports) != n {
		t.Fatalf("%d sockets share ports: %v", n, ports)
	}
	busy := portOf(sockets[0], start.Add(InUse))
	later := start.Add(InUse + time.Millisecond)
	for _, s := range []string{"50000", "50001", "50002", "50003", "50004", "50005", "50006"} {
		if p := portOf(s, later); p == busy {
			t.Errorf("port %d was taken from a socket in use", p)
		}
	}
	if again := portOf(sockets[0], later); again != busy {
		t.Errorf("a socket changed from port %d to %d", busy, again)
	}
	if p := portOf("50007", later); p == 0 { // none is quiet: the port of another flow is used
		t.Error("no port")
	}
}
