package packet

import (
	"encoding/binary"

	"sluice/pipeline/counter"
)

// Parse reads the frame mem[start:end], from its Ethernet header on, into m. mem is the whole chunk, at most
// 65,535 bytes, and 0 <= start <= end <= len(mem). It writes nothing to mem.
//
// The result is counter.None, or the reason to drop the frame; then m says nothing, whatever it holds.
func Parse(mem []byte, start, end int, m *Meta) counter.Reason {
	frame := mem[start:end]
	if len(frame) < EthernetLen {
		return counter.Short
	}
	*m = Meta{L2: uint16(start)}
	etherType, l3 := be16(frame[12:]), start+EthernetLen
	ip := frame[EthernetLen:]
	if etherType == EtherTypeTag || etherType == EtherTypeTagS {
		if len(ip) < TagLen {
			return counter.Short
		}
		m.VLAN = be16(ip) & 0xfff
		etherType = be16(ip[2:])
		ip, l3 = ip[TagLen:], l3+TagLen
	}
	m.L3 = uint16(l3)
	switch etherType {
	case EtherTypeIPv4:
		return parse4(ip, m)
	case EtherTypeIPv6:
		return parse6(ip, m)
	case EtherTypeTag, EtherTypeTagS:
		return counter.VLANStack
	}
	return counter.NotIP
}

// transport reads the TCP or UDP header at the start of seg, the payload of the packet's IP header.
func transport(seg []byte, proto uint8, m *Meta) counter.Reason {
	m.Proto = proto
	if proto == UDP {
		if len(seg) < UDPLen {
			return counter.BadL4Header
		}
		if n := int(be16(seg[4:])); n < UDPLen || n > len(seg) {
			return counter.BadL4Header
		}
		m.SrcPort, m.DstPort = be16(seg), be16(seg[2:])
		return counter.None
	}
	if len(seg) < TCPLen {
		return counter.BadL4Header
	}
	if n := int(seg[12] >> 4 * 4); n < TCPLen || n > len(seg) {
		return counter.BadL4Header
	}
	flags := seg[13] & (FIN | SYN | RST | PSH | ACK)
	if flags == 0 || flags&SYN != 0 && flags&(FIN|RST) != 0 {
		return counter.BadTCPFlags
	}
	m.SrcPort, m.DstPort, m.TCPFlags = be16(seg), be16(seg[2:]), flags
	return counter.None
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
