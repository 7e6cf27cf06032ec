package packettest

import "bytes"

// Sample is a frame of a flow between Client and VIP, with a name for subtests.
type Sample struct {
	Name   string
	Packet Packet
}

// The ends of the flows in Samples.
const (
	Client4, VIP4 = "192.0.2.7:40000", "198.51.100.10:80"
	Client6, VIP6 = "[2001:db8::7]:40000", "[2001:db8:1::10]:80"
	Router4       = "203.0.113.1"
	Router6       = "2001:db8:ffff::1"
)

// Flags of TCP segments.
const (
	fin, syn, rst, psh, ack, urg = 1, 2, 4, 8, 16, 32
)

// Samples are frames that every parser has to accept: what clients, and routers on the way to them,
// send to a VIP.
var Samples = []Sample{
	{"tcp4", TCP(Client4, VIP4)},
	{"tcp4 syn options", TCP(Client4, VIP4).Flags(syn).Seq(1, 0).Payload(nil).
		TCPOptions(2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7)},
	{"tcp4 bad option lengths", TCP(Client4, VIP4).TCPOptions(2, 0, 2, 1, 99, 255, 1, 1)},
	{"tcp4 40 nops", TCP(Client4, VIP4).TCPOptions(bytes.Repeat([]byte{1}, 40)...)},
	{"tcp4 fin tagged", TCP(Client4, VIP4).Flags(fin | ack).VLAN(100)},
	{"tcp4 rst df", TCP(Client4, VIP4).Flags(rst).Payload(nil).DF().ID(77)},
	{"tcp4 urgent tos", TCP(Client4, VIP4).Flags(psh | ack | urg).TOS(0xb9).TTL(1)},
	{"tcp4 wrong checksum", TCP(Client4, VIP4).WrongBy(0x1234)},
	{"udp4", UDP(Client4, VIP4)},
	{"udp4 empty", UDP(Client4, VIP4).Payload(nil)},
	{"udp4 no checksum", UDP(Client4, VIP4).NoChecksum()},
	{"udp4 long", UDP(Client4, VIP4).Payload(make([]byte, 1472))},
	{"tcp6", TCP(Client6, VIP6)},
	{"tcp6 tagged class", TCP(Client6, VIP6).VLAN(100).TOS(0xb9).FlowLabel(0xabcde)},
	{"tcp6 extensions", TCP(Client6, VIP6).Extension(0, 0, 0, 1, 4, 0, 0, 0, 0).
		Extension(60, 0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).Extension(43, 0, 0, 0, 0, 0, 0, 0, 0)},
	{"tcp6 atomic fragment", TCP(Client6, VIP6).Fragment(0, false)},
	{"udp6 atomic fragment", UDP(Client6, VIP6).Fragment(0, false)},
	{"udp6", UDP(Client6, VIP6)},
	{"udp6 odd", UDP(Client6, VIP6).Payload([]byte("odd payload"))},
	{"icmp4 unreachable about tcp", ICMP(Router4, "198.51.100.10", 3, 1, 0, TCP(VIP4, Client4).IP())},
	{"icmp4 too big about udp", ICMP(Router4, "198.51.100.10", 3, 4, 1400, UDP(VIP4, Client4).DF().IP())},
	{"icmp4 expired, 8 bytes of tcp", ICMP(Router4, "198.51.100.10", 11, 0, 0, TCP(VIP4, Client4).IP()[:28])},
	{"icmp4 about options", ICMP(Router4, "198.51.100.10", 12, 0, 0, TCP(VIP4, Client4).Options(1, 1, 1, 0).IP())},
	{"icmp4 about first fragment", ICMP(Router4, "198.51.100.10", 3, 1, 0, UDP(VIP4, Client4).Fragment(0, true).IP())},
	{"icmp6 unreachable about udp", ICMP(Router6, "2001:db8:1::10", 1, 4, 0, UDP(VIP6, Client6).IP())},
	{"icmp6 too big about tcp", ICMP(Router6, "2001:db8:1::10", 2, 0, 1280, TCP(VIP6, Client6).IP())},
	{"icmp6 expired, 8 bytes of tcp", ICMP(Router6, "2001:db8:1::10", 3, 0, 0, TCP(VIP6, Client6).IP()[:48]).VLAN(7)},
	{"icmp6 about first fragment", ICMP(Router6, "2001:db8:1::10", 1, 3, 0, TCP(VIP6, Client6).Fragment(0, true).IP())},
}
