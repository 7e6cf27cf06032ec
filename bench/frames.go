package main

import (
	"encoding/binary"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// template builds the packet that all flows' packets are copies of: 64 bytes on the wire with IPv4, and
// as small as TCP gets with IPv6.
func (l *lab) template() {
	vip, _, _ := l.addresses()
	p := packettest.TCP("10.0.0.0:0", vip.String()+":80")
	if l.family == 6 {
		p = packettest.TCP("[2001:db8:9::]:0", "["+vip.String()+"]:80")
	}
	l.frame = p.Frame()
	for len(l.frame) < 60 {
		l.frame = append(l.frame, 0)
	}
}

func (l *lab) l4() int {
	if l.family == 4 {
		return packet.EthernetLen + packet.IPv4Len
	}
	return packet.EthernetLen + packet.IPv6Len
}

// address makes the frame one of that flow's: client address and port, IPv4 header checksum.
func (l *lab) address(f []byte, flowNumber uint32) {
	host, port := flowNumber/flowsPerAddress, flowNumber%flowsPerAddress
	binary.BigEndian.PutUint16(f[l.l4():], uint16(1024+port))
	if l.family == 6 {
		binary.BigEndian.PutUint32(f[packet.EthernetLen+8+12:], host)
		return
	}
	old := binary.BigEndian.Uint32(l.frame[packet.EthernetLen+12:])
	binary.BigEndian.PutUint32(f[packet.EthernetLen+12:], old+host)
	d := packet.Diff32(old, old+host)
	sum := f[packet.EthernetLen+10:]
	binary.BigEndian.PutUint16(sum, d.Update(binary.BigEndian.Uint16(sum)))
}
