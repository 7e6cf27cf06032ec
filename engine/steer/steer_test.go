package steer_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

// What the program returns.
const (
	drop     = 1
	pass     = 2
	redirect = 4
)

// testCase is a frame and the program's action under testRules on a port without a socket, if it
// remembers nothing: Sluice's frames are dropped, the kernel's passed, the prober's redirected.
type testCase struct {
	name   string
	frame  []byte
	action uint32
}

// family holds the addresses of one IP version, for the cases that both have.
type family struct {
	name, client, router, web, any, vip, b, bAny, bRange, bTunnel, h, l, p string
	icmp                                                                   layers.IPProtocol
}

var families = []family{
	{"v4", client4, router4, web4, any4, vip4, b4, bAny4, bRange4, bTunnel4, h4, l4, p4, pICMP4},
	{"v6", client6, router6, web6, any6, vip6, b6, bAny6, bRange6, bTunnel6, h6, l6, p6, pICMP6},
}

func cases(t testing.TB) []testCase {
	var all []testCase
	for _, f := range families {
		for _, list := range [][]testCase{flowCases(t, f), vipCases(t, f), errorCases(t, f), tagCases(t, f), probeCases(t, f)} {
			for _, c := range list {
				c.name = f.name + " " + c.name
				all = append(all, c)
			}
		}
	}
	return append(append(all, cases4(t)...), cases6(t)...)
}

func flowCases(t testing.TB, f family) []testCase {
	return []testCase{
		{"service", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 80)), drop},
		{"service, UDP", packet(t, ip(f.client, f.web, pUDP), udp(1234, 53)), drop},
		{"service, other protocol", packet(t, ip(f.client, f.web, pUDP), udp(1234, 80)), pass},
		{"service, other port", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 81)), pass},
		{"service's port as source", packet(t, ip(f.client, f.web, pTCP), tcp(80, 22)), pass},
		{"from a service's address", packet(t, ip(f.web, f.client, pTCP), tcp(80, 1234)), pass},
		{"range, below", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 7999)), pass},
		{"range, first", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 8000)), drop},
		{"range, last", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 8099)), drop},
		{"range, above", packet(t, ip(f.client, f.web, pTCP), tcp(1234, 8100)), pass},
		{"any port", packet(t, ip(f.client, f.any, pUDP), udp(1234, 65535)), drop},
		{"any port, other protocol", packet(t, ip(f.client, f.any, pTCP), tcp(1234, 1)), pass},
		{"echo to a service", packet(t, ip(f.client, f.web, f.icmp), gopacket.Payload("\x08\x00\x00\x00abcdefgh")), pass},
		{"other protocol number", packet(t, ip(f.client, f.web, 132), gopacket.Payload("\x04\xd2\x00\x50abcdefgh")), pass},

		{"reply", packet(t, ip(f.b, f.client, pTCP), tcp(8080, 1234)), drop},
		{"reply, UDP", packet(t, ip(f.b, f.client, pUDP), udp(53, 1234)), drop},
		{"backend's own connection", packet(t, ip(f.b, f.client, pTCP), tcp(40000, 443)), pass},
		{"reply, any port", packet(t, ip(f.bAny, f.client, pUDP), udp(777, 1234)), drop},
		{"reply, any port, TCP", packet(t, ip(f.bAny, f.client, pTCP), tcp(777, 1234)), drop},
		{"reply, SYN-ACK", packet(t, ip(f.bAny, f.client, pTCP), synAck(777, 1234)), drop},
		{"backend opens, any port", packet(t, ip(f.bAny, f.client, pTCP), syn(777, 1234)), pass},
		{"backend opens, range", packet(t, ip(f.bRange, f.client, pTCP), syn(8064, 1234)), pass},
		{"backend opens, its service's port", packet(t, ip(f.b, f.client, pTCP), syn(8080, 1234)), pass},
		{"backend opens to a service", packet(t, ip(f.bAny, f.web, pTCP), syn(777, 80)), drop},
		{"backend opens to a pool", packet(t, ip(f.bAny, f.l, pTCP), syn(777, 20000)), drop},
		{"reply, range", packet(t, ip(f.bRange, f.client, pTCP), tcp(8064, 1234)), drop},
		{"reply, outside the range", packet(t, ip(f.bRange, f.client, pTCP), tcp(8100, 1234)), pass},
		{"answer to our health check", packet(t, ip(f.b, f.h, pTCP), tcp(8080, 1234)), pass},
		{"to a backend's port", packet(t, ip(f.client, f.b, pTCP), tcp(1234, 8080)), pass},
		{"backend asks a service", packet(t, ip(f.b, f.web, pTCP), tcp(40000, 80)), drop},
		// web4 is local
		{"backend's SSH to a service's address", packet(t, ip(f.bRange, f.web, pTCP), tcp(8000, 22)), actionFor(f.name == "v6")},

		{"pool", packet(t, ip(f.b, f.l, pTCP), tcp(8080, 20000)), drop},
		{"pool, last port", packet(t, ip(f.b, f.l, pTCP), tcp(8080, 29999)), drop},
		{"pool's address, other port", packet(t, ip(f.b, f.l, pTCP), tcp(8080, 30000)), pass},
		{"pool, other protocol", packet(t, ip(f.b, f.l, pUDP), udp(53, 20000)), pass},
		{"pool of its own", packet(t, ip(f.client, f.p, pUDP), udp(53, 1024)), drop},
		{"pool of its own, other port", packet(t, ip(f.client, f.p, pUDP), udp(53, 1023)), pass},

		{"too short for ports", packet(t, ip(f.client, f.any, pUDP), gopacket.Payload("abc")), pass},
		{"just ports", packet(t, ip(f.client, f.any, pUDP), gopacket.Payload("abcd")), drop},
		{"ports in the padding", append(packet(t, ip(f.client, f.any, pUDP)), "abcdefgh"...), pass},
	}
}

// vipCases are packets to a service's address that the host does not have.
func vipCases(t testing.TB, f family) []testCase {
	echo, discovery := gopacket.Payload("\x08\x00\x00\x00abcdefgh"), gopacket.Payload("\x87\x00\x00\x00\x00\x00\x00\x00abcdefghijklmnop")
	if f.name == "v6" {
		echo[0] = 128
	}
	hops := func(n uint8) gopacket.SerializableLayer {
		header := ip(f.client, f.vip, f.icmp)
		if v6, ok := header.(*layers.IPv6); ok {
			v6.HopLimit = n
		}
		return header
	}
	group := packet(t, ip(f.client, f.vip, pTCP), tcp(1234, 22))
	group[0] |= 1
	return []testCase{
		{"VIP, service", packet(t, ip(f.client, f.vip, pTCP), tcp(1234, 80)), drop},
		{"VIP, other port", packet(t, ip(f.client, f.vip, pTCP), tcp(1234, 22)), drop},
		{"VIP, other protocol", packet(t, ip(f.client, f.vip, pUDP), udp(1234, 80)), drop},
		{"VIP, echo", packet(t, ip(f.client, f.vip, f.icmp), echo), drop},
		{"VIP, other protocol number", packet(t, ip(f.client, f.vip, 132), gopacket.Payload("\x04\xd2\x00\x50abcdefgh")), drop},
		{"VIP, too short for ports", packet(t, ip(f.client, f.vip, pTCP), gopacket.Payload("abc")), drop},
		{"VIP, too short for ICMP", packet(t, ip(f.client, f.vip, f.icmp), gopacket.Payload("abc")), drop},
		{"VIP, from a backend", packet(t, ip(f.bAny, f.vip, pTCP), syn(1234, 22)), drop},
		{"VIP, group address", group, pass},
		{"VIP, error about nothing", icmp(t, f.router, f.vip, 3, []byte("nothing")), drop},
		{"VIP, discovery", packet(t, hops(255), discovery), actionFor(f.name == "v4")},
		{"VIP, discovery behind a router", packet(t, hops(254), discovery), drop},
		{"from the VIP", packet(t, ip(f.vip, f.client, pTCP), tcp(22, 1234)), pass},
	}
}

// errorCases has the lines of the table in steer.c, and packets that resemble them.
func errorCases(t testing.TB, f family) []testCase {
	quote := func(source, destination string, transport gopacket.SerializableLayer) []byte {
		next := pTCP
		if _, ok := transport.(*layers.UDP); ok {
			next = pUDP
		}
		header := ip(source, destination, next)
		length := 28 // what an IPv4 router must quote: header and 8 bytes
		if f.name == "v6" {
			length = 48
		}
		return build(t, header, transport, gopacket.Payload("payload"))[:length]
	}
	tunnel := func(source, destination string, next layers.IPProtocol) []byte {
		return build(t, ip(source, destination, next), gopacket.Payload(quote(f.client, f.web, tcp(1234, 80))))
	}
	unreachable := uint8(3)
	if f.name == "v6" {
		unreachable = 1
	}
	var list []testCase
	add := func(name, from, to string, quote []byte, ours bool) {
		list = append(list, testCase{"error: " + name, icmp(t, from, to, unreachable, quote), actionFor(ours)})
	}
	add("V>C", f.router, f.web, quote(f.web, f.client, tcp(80, 1234)), true)
	add("V>C, range", f.router, f.web, quote(f.web, f.client, tcp(8010, 1234)), true)
	add("V>C, any port", f.client, f.any, quote(f.any, f.client, udp(9, 1234)), true)
	add("V>C, not a service", f.router, f.web, quote(f.web, f.client, tcp(22, 1234)), false)
	add("C>B", f.b, f.client, quote(f.client, f.b, udp(1234, 53)), true)
	add("C>B, any port", f.router, f.client, quote(f.client, f.bAny, udp(1234, 9)), true)
	add("C>B, not a reply rule", f.b, f.client, quote(f.client, f.b, udp(1234, 54)), false)
	add("L>B", f.b, f.l, quote(f.l, f.b, tcp(20000, 8080)), true)
	add("L>B, the host's own", f.b, f.l, quote(f.l, f.b, tcp(40000, 8080)), false)
	add("H>B", f.b, f.h, quote(f.h, f.b, udp(40000, 53)), false)
	add("C>V", f.router, f.client, quote(f.client, f.web, tcp(1234, 80)), false)
	add("B>C", f.router, f.b, quote(f.b, f.client, tcp(8080, 1234)), false)
	add("B>L", f.router, f.b, quote(f.b, f.l, tcp(8080, 20000)), false)
	add("not to the quoted sender", f.router, f.h, quote(f.web, f.client, tcp(80, 1234)), false)
	add("tunnel of IPv4", f.router, f.h, tunnel(f.h, f.bTunnel, layers.IPProtocolIPv4), false)
	add("tunnel of IPv6", f.router, f.h, tunnel(f.h, f.bTunnel, layers.IPProtocolIPv6), false)
	add("another host's tunnel", f.router, f.client, tunnel(f.client, f.bTunnel, layers.IPProtocolIPv4), false)
	add("tunnel to another host", f.router, f.h, tunnel(f.h, f.b, layers.IPProtocolIPv4), false)
	add("about an echo", f.router, f.web, build(t, ip(f.web, f.client, f.icmp), gopacket.Payload("\x08\x00\x00\x00abcd")), false)
	whole := quote(f.web, f.client, tcp(80, 1234))
	add("cut before the ports", f.router, f.web, whole[:len(whole)-5], false)
	add("cut behind the ports", f.router, f.web, whole[:len(whole)-4], true)
	for kind, ours := range map[uint8]bool{
		0: false, 1: f.name == "v6", 2: f.name == "v6", 3: true, 4: true, 5: false, 8: false,
		11: f.name == "v4", 12: f.name == "v4", 128: false, 129: false, 136: false,
	} {
		list = append(list, testCase{fmt.Sprintf("ICMP type %d", kind), icmp(t, f.router, f.web, kind, whole), actionFor(ours)})
	}
	return list
}

func tagCases(t testing.TB, f family) []testCase {
	etherType := layers.EthernetTypeIPv6
	if f.name == "v4" {
		etherType = layers.EthernetTypeIPv4
	}
	inner := []gopacket.SerializableLayer{ip(f.client, f.web, pTCP), tcp(1234, 80)}
	tagged := func(outer layers.EthernetType, tags ...gopacket.SerializableLayer) []byte {
		return build(t, append(append([]gopacket.SerializableLayer{ether(outer)}, tags...), inner...)...)
	}
	group := packet(t, inner...)
	group[0] |= 1
	toMAC := func(frame []byte, mac net.HardwareAddr) []byte {
		copy(frame, mac)
		return frame
	}
	vlan := func(outer layers.EthernetType, id uint16) []byte {
		return tagged(outer, &layers.Dot1Q{Priority: 5, DropEligible: true, VLANIdentifier: id, Type: etherType})
	}
	fromGroup := packet(t, inner...)
	fromGroup[6] |= 1
	return []testCase{
		{"802.1Q", tagged(layers.EthernetTypeDot1Q, tag(etherType)), drop},
		{"802.1Q, priority", vlan(layers.EthernetTypeDot1Q, ourVLAN), drop},
		{"802.1Q, priority only", vlan(layers.EthernetTypeDot1Q, 0), drop},
		{"802.1Q, other VLAN", vlan(layers.EthernetTypeDot1Q, ourVLAN+1), pass},
		{"802.1Q, last VLAN", vlan(layers.EthernetTypeDot1Q, 4095), pass},
		{"802.1ad", tagged(layers.EthernetTypeQinQ, tag(etherType)), pass},
		{"802.1ad, priority only", vlan(layers.EthernetTypeQinQ, 0), drop},
		{"other MAC", toMAC(packet(t, inner...), theirMAC), pass},
		{"other MAC, tagged", toMAC(vlan(layers.EthernetTypeDot1Q, ourVLAN), theirMAC), pass},
		{"macvlan", toMAC(packet(t, inner...), childMAC), drop},
		{"macvlan, other VLAN", toMAC(vlan(layers.EthernetTypeDot1Q, ourVLAN), childMAC), pass},
		{"other MAC, VIP", toMAC(packet(t, ip(f.client, f.vip, pTCP), tcp(1234, 22)), theirMAC), pass},
		{"other MAC, reply", toMAC(packet(t, ip(f.b, f.client, pTCP), tcp(8080, 1234)), theirMAC), pass},
		{"other MAC, probe", toMAC(packet(t, ip(f.web, f.h, pTCP), tcp(80, 28672)), theirMAC), pass},
		{"from a group address", fromGroup, pass},
		{"two tags", tagged(layers.EthernetTypeQinQ, tag(layers.EthernetTypeDot1Q), tag(etherType)), pass},
		{"two 802.1Q tags", tagged(layers.EthernetTypeDot1Q, tag(layers.EthernetTypeDot1Q), tag(etherType)), pass},
		{"other EtherType", tagged(layers.EthernetTypeMPLSUnicast), pass},
		{"group address", group, pass},
	}
}

func cases4(t testing.TB) []testCase {
	cut := packet(t, ip(client4, web4, pTCP), tcp(1234, 80))
	shortHeader, version, longer := append([]byte{}, cut...), append([]byte{}, cut...), append([]byte{}, cut...)
	shortHeader[14] = 0x44
	version[14] = 0x55
	longer[17] += 7 // 6 bytes of padding follow the packet
	arp := build(t, ether(layers.EthernetTypeARP), gopacket.Payload(make([]byte, 28)))
	return []testCase{
		{"v4 options", packet(t, options4(client4, web4, pTCP), tcp(1234, 80)), drop},
		{"v4 options, other port", packet(t, options4(client4, web4, pTCP), tcp(1234, 81)), pass},
		{"v4 error quotes options", icmp(t, router4, web4, 11, build(t, options4(web4, client4, pTCP), tcp(80, 1234))[:32]), drop},
		{"v4 header length below 5", shortHeader, pass},
		{"v4 version 5", version, pass},
		{"v4 total length beyond the frame", longer, pass},
		{"v4 padded", append(append([]byte{}, cut...), 0, 0, 0, 0), drop},
		{"ARP", arp, pass},

		{"v4 first fragment", packet(t, fragment4(client4, web4, pTCP, 0, true), tcp(1234, 80)), drop},
		{"v4 first fragment, other port", packet(t, fragment4(client4, web4, pTCP, 0, true), tcp(1234, 22)), pass},
		{"v4 first fragment without ports", packet(t, fragment4(client4, web4, pTCP, 0, true)), pass},
		{"v4 middle fragment", packet(t, fragment4(client4, web4, pTCP, 5, true), gopacket.Payload("12345678")), pass},
		{"v4 last fragment", packet(t, fragment4(client4, web4, pUDP, 5, false), gopacket.Payload("1")), pass},
		{"v4 fragment to a VIP", packet(t, fragment4(client4, vip4, pUDP, 5, false), gopacket.Payload("1")), drop},
		{"v4 first fragment of a reply", packet(t, fragment4(b4, client4, pTCP, 0, true), tcp(8080, 1234)), drop},
		{"v4 first fragment of a backend's", packet(t, fragment4(b4, client4, pTCP, 0, true), tcp(8081, 1234)), pass},
		{"v4 fragment, other protocol", packet(t, fragment4(client4, any4, pTCP, 5, false), gopacket.Payload("12345678")), pass},
		{"v4 fragment, ICMP", packet(t, fragment4(client4, web4, pICMP4, 5, false), gopacket.Payload("12345678")), pass},
		{"v4 fragment to another", packet(t, fragment4(client4, other4, pTCP, 5, false), gopacket.Payload("12345678")), pass},
		{"v4 reply's fragment", packet(t, fragment4(b4, client4, pTCP, 5, false), gopacket.Payload("12345678")), drop},
		{"v4 backend's fragment to us", packet(t, fragment4(b4, h4, pTCP, 5, false), gopacket.Payload("12345678")), pass},
		{"v4 pool, first fragment", packet(t, fragment4(b4, l4, pTCP, 0, true), tcp(8080, 20000)), drop},
		{"v4 pool, the host's first fragment", packet(t, fragment4(b4, l4, pTCP, 0, true), tcp(8080, 19999)), pass},
		{"v4 pool, later fragment", packet(t, fragment4(b4, l4, pTCP, 5, false), gopacket.Payload("12345678")), pass},
		{"v4 pool of its own, later fragment", packet(t, fragment4(b4, p4, pUDP, 5, false), gopacket.Payload("12345678")), drop},
		{"v4 error about a later fragment", icmp(t, router4, web4, 11, build(t, fragment4(web4, client4, pTCP, 5, false), gopacket.Payload("12345678"))), pass},
		{"v4 fragment of an error", packet(t, fragment4(router4, web4, pICMP4, 0, true), gopacket.Payload(icmp(t, router4, web4, 3, build(t, ip(web4, client4, pTCP), tcp(80, 1234)))[34:])), pass},

		{"v4 reply to multicast", packet(t, ip(bAny4, "224.0.0.251", pUDP), udp(5353, 5353)), pass},
		{"v4 reply to broadcast", packet(t, ip(bAny4, "255.255.255.255", pUDP), udp(68, 67)), pass},
		{"v4 reply to subnet broadcast", packet(t, ip(bAny4, broadcast4, pUDP), udp(137, 137)), pass},
		{"v4 reply to loopback", packet(t, ip(bAny4, "127.0.0.1", pUDP), udp(53, 1234)), pass},
		{"v4 reply to nowhere", packet(t, ip(bAny4, "0.0.0.0", pUDP), udp(53, 1234)), pass},
		{"v4 reply to 223", packet(t, ip(bAny4, "223.255.255.255", pUDP), udp(53, 1234)), drop},
		{"v4 protocol 0", packet(t, ip(client4, any4, 0), udp(1234, 53)), pass},
	}
}

func cases6(t testing.TB) []testCase {
	chain := func(n int) []gopacket.SerializableLayer {
		ls := []gopacket.SerializableLayer{ip(client6, web6, pOptions)}
		for range n - 1 {
			ls = append(ls, options(pOptions, 0))
		}
		return append(ls, options(pTCP, 0), tcp(1234, 80))
	}
	fragmentAs := func(n int) []gopacket.SerializableLayer {
		return append(chain(n)[:n-1], options(pFragment, 0), fragment6(pTCP, 5, false), gopacket.Payload("12345678"))
	}
	mapped := packet(t, ip(client6, web6, pTCP), tcp(1234, 80))
	copy(mapped[38:], "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x0a") // web4
	jumbo := packet(t, ip(client6, web6, pTCP), tcp(1234, 80))
	jumbo[18], jumbo[19] = 0, 0
	quote := func(ls ...gopacket.SerializableLayer) []byte { return icmp(t, router6, web6, 2, build(t, ls...)) }
	later := gopacket.Payload("12345678")
	return []testCase{
		{"v6 hop-by-hop", packet(t, ip(client6, web6, pHop), options(pTCP, 0), tcp(1234, 80)), drop},
		{"v6 hop-by-hop, 2 KiB", packet(t, ip(client6, web6, pHop), options(pTCP, 255), tcp(1234, 80)), drop},
		{"v6 hop-by-hop, other port", packet(t, ip(client6, web6, pHop), options(pTCP, 0), tcp(1234, 81)), pass},
		{"v6 routing, no segments left", packet(t, ip(client6, web6, pRouting), routing(pTCP, 0), tcp(1234, 80)), drop},
		{"v6 routing, on its way", packet(t, ip(client6, web6, pRouting), routing(pTCP, 1), tcp(1234, 80)), pass},
		{"v6 three kinds", packet(t, ip(client6, web6, pHop), options(pRouting, 1), routing(pOptions, 0), options(pTCP, 2), tcp(1234, 80)), drop},
		{"v6 eight headers", packet(t, chain(8)...), drop},
		{"v6 nine headers", packet(t, chain(9)...), pass},
		{"v6 eight headers, the last a fragment header", packet(t, fragmentAs(8)...), drop},
		{"v6 nine headers, the last a fragment header", packet(t, fragmentAs(9)...), pass},
		{"v6 nine headers to a VIP", packet(t, append([]gopacket.SerializableLayer{ip(client6, vip6, pOptions)}, chain(9)[1:]...)...), drop},
		{"v6 routing through a VIP", packet(t, ip(client6, vip6, pRouting), routing(pTCP, 1), tcp(1234, 80)), drop},
		{"v6 eight longest headers", packet(t, longChain()...), drop},
		{"v6 AH", packet(t, ip(client6, web6, 51), options(pTCP, 0), tcp(1234, 80)), pass},
		{"v6 no next header", packet(t, ip(client6, web6, 59), tcp(1234, 80)), pass},
		{"v6 mapped destination", mapped, pass},
		{"v6 jumbogram", jumbo, pass},

		{"v6 atomic fragment", packet(t, ip(client6, web6, pFragment), fragment6(pTCP, 0, false), tcp(1234, 80)), drop},
		{"v6 atomic fragment, other port", packet(t, ip(client6, web6, pFragment), fragment6(pTCP, 0, false), tcp(1234, 81)), pass},
		{"v6 first fragment", packet(t, ip(client6, web6, pFragment), fragment6(pTCP, 0, true), tcp(1234, 80)), drop},
		{"v6 first fragment, other port", packet(t, ip(client6, web6, pFragment), fragment6(pTCP, 0, true), tcp(1234, 81)), pass},
		{"v6 first fragment, options", packet(t, ip(client6, web6, pFragment), fragment6(pOptions, 0, true), options(pTCP, 0), tcp(1234, 80)), drop},
		{"v6 later fragment", packet(t, ip(client6, web6, pFragment), fragment6(pTCP, 5, true), later), drop},
		{"v6 later fragment behind options", packet(t, ip(client6, any6, pFragment), fragment6(pOptions, 5, false), later), pass},
		{"v6 later fragment to a VIP", packet(t, ip(client6, vip6, pFragment), fragment6(pTCP, 5, true), later), drop},
		{"v6 later fragment, other protocol", packet(t, ip(client6, any6, pFragment), fragment6(pTCP, 5, false), later), pass},
		{"v6 later fragment, ICMP", packet(t, ip(client6, web6, pFragment), fragment6(pICMP6, 5, false), later), pass},
		{"v6 reply's fragment", packet(t, ip(b6, client6, pFragment), fragment6(pTCP, 5, false), later), drop},
		{"v6 backend's fragment to us", packet(t, ip(b6, h6, pFragment), fragment6(pTCP, 5, false), later), pass},
		{"v6 pool, later fragment", packet(t, ip(b6, l6, pFragment), fragment6(pTCP, 5, false), later), pass},
		{"v6 pool of its own, later fragment", packet(t, ip(b6, p6, pFragment), fragment6(pUDP, 5, false), later), drop},

		{"v6 error quotes extensions", quote(ip(web6, client6, pHop), options(pOptions, 0), options(pTCP, 1), tcp(80, 1234)), drop},
		{"v6 error quotes a later fragment", quote(ip(web6, client6, pFragment), fragment6(pTCP, 5, false), later), pass},
		{"v6 error quotes an atomic fragment", quote(ip(web6, client6, pFragment), fragment6(pTCP, 0, false), tcp(22, 1234)), pass},
		{"v6 error behind options", packet(t, ip(router6, web6, pOptions), options(pICMP6, 0),
			gopacket.Payload("\x01\x00\x00\x00\x00\x00\x00\x00"), gopacket.Payload(build(t, ip(web6, client6, pTCP), tcp(80, 1234)))), drop},

		{"v6 reply to multicast", packet(t, ip(bAny6, "ff02::fb", pUDP), udp(5353, 5353)), pass},
		{"v6 reply to link-local", packet(t, ip(bAny6, "fe80::1", pUDP), udp(53, 1234)), pass},
		{"v6 reply to fec0", packet(t, ip(bAny6, "fec0::1", pUDP), udp(53, 1234)), drop},
		{"v6 reply to loopback", packet(t, ip(bAny6, "::1", pUDP), udp(53, 1234)), pass},
		{"v6 neighbour solicitation", packet(t, ip(client6, web6, pICMP6), gopacket.Payload("\x87\x00\x00\x00\x00\x00\x00\x00abcdefghijklmnop")), pass},
	}
}

// longChain has the ports as far from the start as possible.
func longChain() []gopacket.SerializableLayer {
	ls := []gopacket.SerializableLayer{ip(client6, web6, pOptions)}
	for range 7 {
		ls = append(ls, options(pOptions, 20))
	}
	return append(ls, options(pTCP, 20), tcp(1234, 80))
}

// testPort is a port with testRules, not connected to anything.
func testPort(t testing.TB) *steer.Port {
	port, _ := testPortOf(t)
	return port
}

// testPortOf returns a testPort and its program.
func testPortOf(t testing.TB) (*steer.Port, *steer.Program) {
	enterNamespace(t)
	program := load(t)
	if err := program.Set(testRules()); err != nil {
		t.Fatal(err)
	}
	port := loopback(t)
	if err := program.Detour(port.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	return attach(t, program, port, steer.Generic), program
}

// actionFor returns the action for a frame of Sluice's, or of the kernel's.
func actionFor(ours bool) uint32 {
	if ours {
		return drop
	}
	return pass
}

// isOurs reports whether the program sends a frame to Sluice. The port has no socket, so the action
// is drop.
func isOurs(t testing.TB, port *steer.Port, frame []byte) bool {
	return actionOf(t, port, frame) == drop
}

func actionOf(t testing.TB, port *steer.Port, frame []byte) uint32 {
	t.Helper()
	action, err := port.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return action
}

// actionOn is what the program returns for a decision, on a port without a socket.
func actionOn(d steer.Decision) uint32 {
	return map[steer.Target]uint32{steer.Kernel: pass, steer.Sluice: drop, steer.Prober: redirect}[d.Target]
}

func TestVerdicts(t *testing.T) {
	port, program := testPortOf(t)
	decider := steer.NewDecider(testRules())
	names := map[string]bool{}
	for _, c := range cases(t) {
		if names[c.name] {
			t.Errorf("two cases have the name %q", c.name)
		}
		names[c.name] = true
		if err := program.Forget(); err != nil {
			t.Fatal(err)
		}
		if got := decider.DecideAt(loopbackIndex, c.frame, steer.NewMemory()); actionOn(got) != c.action {
			t.Errorf("%s: Decide returns %+v (%s), want action %v\n%x", c.name, got, got, c.action, c.frame)
		}
		if got := actionOf(t, port, c.frame); got != c.action {
			t.Errorf("%s: action %v, want %v\n%x", c.name, got, c.action, c.frame)
		}
	}
}

// TestSocket: Sluice's frames are redirected with a socket and dropped without, and each frame
// counts once.
func TestSocket(t *testing.T) {
	port := testPort(t)
	service := packet(t, ip(client4, web4, pTCP), tcp(1234, 80))
	other := packet(t, ip(client4, web4, pTCP), tcp(1234, 22))
	expect := func(frame []byte, want uint32) {
		t.Helper()
		if got, err := port.Run(frame); err != nil || got != want {
			t.Errorf("action %d (%v), want %d", got, err, want)
		}
	}
	expect(service, drop)
	expect(other, pass)

	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0) // the map takes it before it is bound
	if err != nil {
		t.Fatal(err)
	}
	if err := port.Register(0, socket); err != nil {
		t.Fatal(err)
	}
	expect(service, redirect)
	expect(other, pass)

	if err := port.Unregister(0); err != nil {
		t.Fatal(err)
	}
	expect(service, drop)
	if err := port.Unregister(0); err == nil {
		t.Error("unregistering a queue twice returns no error")
	}

	if err := port.Register(0, socket); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(socket); err != nil {
		t.Fatal(err)
	}
	expect(service, drop) // a socket that was closed without Unregister

	got, err := port.Counters()
	if want := (steer.Counters{Passed: 2, Redirected: 1, NoSocket: 3}); err != nil || got != want {
		t.Errorf("counters %+v (%v), want %+v", got, err, want)
	}
	for _, queue := range []int{-1, 1024} {
		if err := port.Register(queue, 0); err == nil || !strings.Contains(err.Error(), "0-1023") {
			t.Errorf("registering queue %d: %v", queue, err)
		}
	}
}

// BenchmarkVerdict measures the program in the kernel, without a driver.
func BenchmarkVerdict(b *testing.B) {
	port := testPort(b)
	for _, c := range []struct {
		name  string
		frame []byte
	}{
		{"service/v4", packet(b, ip(client4, web4, pTCP), tcp(1234, 80))},
		{"service/v6", packet(b, ip(client6, web6, pTCP), tcp(1234, 80))},
		{"range/v4", packet(b, ip(client4, web4, pTCP), tcp(1234, 8050))},
		{"any/v4", packet(b, ip(client4, any4, pUDP), udp(1234, 80))},
		{"reply/v4", packet(b, ip(b4, client4, pTCP), tcp(8080, 1234))},
		{"reply/any/v4", packet(b, ip(bAny4, client4, pTCP), tcp(8080, 1234))},
		{"reply/range/v4", packet(b, ip(bRange4, client4, pTCP), tcp(8080, 1234))},
		{"other/v4", packet(b, ip(client4, other4, pTCP), tcp(1234, 80))},
		{"error/v4", icmp(b, router4, web4, 3, build(b, ip(web4, client4, pTCP), tcp(80, 1234))[:28])},
	} {
		b.Run(c.name, func(b *testing.B) {
			_, perRun, err := port.Benchmark(c.frame, b.N)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(perRun.Nanoseconds()), "ns/op")
		})
	}
}
