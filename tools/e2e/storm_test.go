package e2e_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/tools/e2e/testbed"
)

// TestStorm: ten thousand frames that are random, or valid ones with something changed, from both
// sides, do no harm: the daemon survives, its memory does not grow, every packet is accounted for,
// and requests are answered.
func TestStorm(t *testing.T) {
	b := bed(t)
	cfg := config(t, testbed.Paths...)
	cfg.Engine.Connections = 16384 // few, so that leaks are visible beside what they use
	d := start(t, b, cfg)
	front := frontWire(t, b)
	back := openWire(t, b.Router, "back", b.Balancer, testbed.Back)
	random := rand.New(rand.NewPCG(1, 2))
	seeds := map[*wire][][]byte{front: validFrames(front, b), back: validFrames(back, b)}
	storm := func(frames int) {
		for i := range frames {
			w := front
			if i%4 == 3 {
				w = back
			}
			w.send(mutate(random, seeds[w]))
			if i%100 == 99 { // lets the daemon keep up, so that it sees most of them
				if _, err := d.API.Stats(ctxOf(t)); err != nil {
					t.Fatal("the daemon does not answer: ", err)
				}
			}
		}
	}
	storm(2000) // memory that is touched for the first time is no leak
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	memory := rssKiB(t, d)

	storm(10_000)

	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if got := after.Rx - before.Rx; got < 3000 {
		t.Errorf("of 10,000 frames only %d were steered to Sluice", got)
	}
	if grown := rssKiB(t, d) - memory; grown > 8<<10 {
		t.Errorf("the daemon has grown by %d KiB", grown)
	}
	for _, p := range testbed.Paths {
		works(t, b, p)
	}
	dropped, err := drops(ctxOf(t), d)
	must(t, err)
	t.Logf("rx %d, forwarded %d, replied %d, dropped %v", after.Rx, after.Forwarded, after.Replied, dropped)
	if len(dropped) < 6 {
		t.Errorf("frames were dropped for few reasons only: %v", dropped)
	}
}

// mutate returns a frame: one in eight is noise after an Ethernet header, the others are valid
// frames with a few bytes changed, truncated, or extended. Every other one gets a correct IPv4
// checksum: without it, most would be dropped early.
func mutate(random *rand.Rand, valid [][]byte) []byte {
	frame := append([]byte(nil), valid[random.IntN(len(valid))]...)
	noise := func(into []byte) {
		for i := range into {
			into[i] = byte(random.Uint32())
		}
	}
	switch random.IntN(8) {
	case 0:
		frame = append(frame[:14], make([]byte, random.IntN(1500))...)
		noise(frame[14:])
	case 1:
		frame = frame[:14+random.IntN(len(frame)-14)]
	case 2:
		frame = append(frame, make([]byte, random.IntN(64))...)
	case 3: // as it is
	default:
		for range 1 + random.IntN(4) {
			frame[12+random.IntN(min(len(frame), 100)-12)] = byte(random.Uint32())
		}
	}
	if len(frame) >= 34 && frame[12] == 8 && frame[13] == 0 && random.IntN(2) == 0 {
		header := frame[14:min(len(frame), 14+max(20, int(frame[14]&15)*4))]
		header[10], header[11] = 0, 0
		binary.BigEndian.PutUint16(header[10:], ^onesSum(header))
	}
	return frame
}

// onesSum returns the ones' complement sum of RFC 1071.
func onesSum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// validFrames returns packets of all kinds that Sluice knows, as a client and as a backend sends
// them.
func validFrames(w *wire, b *testbed.Bed) (frames [][]byte) {
	for _, p := range testbed.Paths {
		client := netip.AddrPortFrom(p.Client(), 1234)
		web := netip.AddrPortFrom(p.Address(), testbed.WebPort)
		datagrams := netip.AddrPortFrom(p.Address(), testbed.UDPPort)
		server := netip.AddrPortFrom(b.Backends[0].Addr(p.Backend), testbed.NATWebPort)
		syn := func(s *layers.TCP) {
			s.SYN = true
			s.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}
		}
		frames = append(frames,
			w.tcp(client, web, syn, ""),
			w.tcp(client, web, func(s *layers.TCP) { s.ACK = true }, "GET / HTTP/1.1\r\n\r\n"),
			w.tcp(client, web, func(s *layers.TCP) { s.FIN, s.ACK = true, true }, ""),
			w.tcp(client, web, func(s *layers.TCP) { s.RST = true }, ""),
			w.udp(client, datagrams, "a question"),
			w.udp(client, datagrams, ""),
			w.icmpError(client.Addr(), w.tcp(web, client, syn, "")[14:]),
			w.icmpError(client.Addr(), w.udp(datagrams, client, "an answer")[14:]),
			w.tagged(w.tcp(client, web, syn, "")))
		if p.Mode == "nat" {
			frames = append(frames,
				w.tcp(server, client, func(s *layers.TCP) { s.SYN, s.ACK = true, true }, ""),
				w.tcp(server, client, func(s *layers.TCP) { s.ACK = true }, "HTTP/1.1 200 OK\r\n\r\n"),
				w.icmpError(server.Addr(), w.tcp(client, server, syn, "")[14:]))
		}
	}
	return frames
}

// icmpError returns an ICMP error about a packet, addressed to its sender.
func (w *wire) icmpError(from netip.Addr, quoted []byte) []byte {
	if from.Is6() {
		to := netip.AddrFrom16([16]byte(quoted[8:24]))
		network := ip(from, to, layers.IPProtocolICMPv6)
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodePortUnreachable)}
		l.SetNetworkLayerForChecksum(network)
		return serialize(w.t, w.ethernet(to), network, l, gopacket.Payload(append(make([]byte, 4), quoted...)))
	}
	to := netip.AddrFrom4([4]byte(quoted[12:16]))
	l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)}
	return serialize(w.t, w.ethernet(to), ip(from, to, layers.IPProtocolICMPv4), l, gopacket.Payload(quoted))
}

// tagged puts a frame into VLAN 5.
func (w *wire) tagged(frame []byte) []byte {
	return append(append(append([]byte(nil), frame[:12]...), 0x81, 0x00, 0, 5), frame[12:]...)
}
