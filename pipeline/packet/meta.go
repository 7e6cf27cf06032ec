package packet

// TCP flags as they stand in Meta.TCPFlags and in the TCP header (RFC 9293, 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// badFlags has bit f set if TCP flags f are invalid: none at all, or SYN together with FIN or RST.
const badFlags uint32 = 1<<0 |
	1<<(SYN|FIN) | 1<<(SYN|RST) | 1<<(SYN|FIN|RST) |
	1<<(SYN|FIN|PSH) | 1<<(SYN|RST|PSH) | 1<<(SYN|FIN|RST|PSH) |
	1<<(SYN|FIN|ACK) | 1<<(SYN|RST|ACK) | 1<<(SYN|FIN|RST|ACK) |
	1<<(SYN|FIN|PSH|ACK) | 1<<(SYN|RST|PSH|ACK) | 1<<(SYN|FIN|RST|PSH|ACK)

// IP protocol numbers that the packet path knows.
const (
	ICMP   = 1
	IPIP   = 4
	TCP    = 6
	UDP    = 17
	IPv6   = 41
	ICMPv6 = 58
)

// Header lengths in bytes, and the EtherTypes of IP.
const (
	EthernetLen = 14
	TagLen      = 4
	IPv4Len     = 20 // without options: Parse refuses them
	IPv6Len     = 40 // without extension headers
	TCPLen      = 20 // without options
	UDPLen      = 8
	ICMPLen     = 8

	EtherTypeIPv4 = 0x0800
	EtherTypeIPv6 = 0x86dd
	EtherTypeTag  = 0x8100 // 802.1Q
	EtherTypeTagS = 0x88a8 // 802.1ad
)

// Meta is what Parse finds in a frame; later stages do not check it again. It fills one cache line
// and belongs to the owner of the frame.
//
// All offsets are bytes from the start of the chunk, not of the frame, so that headers can be put
// in front. The functions of package rewrite keep offsets, Family and TTL valid while they change
// the frame.
type Meta struct {
	// Src, Dst: of the flow's packet: for an ICMP error those of the packet embedded in it
	Src, Dst         Addr
	SrcPort, DstPort uint16 // likewise
	// IP header; transport or ICMP header; one past the IP packet's last byte
	L3, L4, End uint16
	// ICMP error only, else 0: embedded IP header; embedded transport header
	Inner, InnerL4 uint16
	// TCP or UDP, of the flow: for an ICMP error that of the embedded packet
	Proto     uint8
	Family    uint8  // 4 or 6, of the outermost IP header
	TTL       uint8  // TTL or hop limit of the outermost IP header; not judged by Parse
	TCPFlags  uint8  // FIN, SYN, RST, PSH, ACK; 0 for UDP and ICMP errors
	ICMPError bool   // the frame is an ICMP error about the flow
	Part      Part   // not Whole: only ParseFragment
	L2        uint16 // Ethernet header: the frame's first byte
	VLAN      uint16 // VLAN identifier of the tag, 0 if there is none
	// FragmentID: the identification that a fragment gets if its addresses are translated; not set
	// by this package
	FragmentID     uint32
	FragmentHeader uint16 // of a fragment in IPv6, else 0
	_              [2]byte
}

// DontFragment reports whether the outermost header forbids fragmentation: the flag in IPv4, always
// in IPv6.
func DontFragment(mem []byte, m *Meta) bool {
	return m.Family == 6 || mem[m.L3+6]&0x40 != 0
}
