package main

import (
	"encoding/binary"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// template returns the packet that the packets of all flows are copied from: 64 bytes on the wire
// with IPv4, and the smallest TCP packet with IPv6.
func (l *lab) template() {
	vip, backend, _ := l.addresses()
	p := packettest.TCP("10.0.0.0:0", vip.String()+":80")
	if l.family == 6 {
		p = packettest.TCP("[2001:db8:9::]:0", "["+vip.String()+"]:80")
	}
	l.frame = p.Frame()
	l.backend = backend(0).AsSlice()
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

// address writes the client address and port of a flow into the frame, and the IPv4 header
// checksum.
func (l *lab) address(f []byte, flowNumber uint32) {
	if l.random {
		l.randomAddress(f, flowNumber)
		return
	}
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

// turn makes a packet of a client one from the backend of its flow, at the service's port, to the
// client or to the SNAT address that replaces it. The TCP checksum stays wrong, since no code under
// test reads it.
func (l *lab) turn(f []byte, w way) {
	size := len(l.backend)
	dst := l.l4() - size
	src := dst - size
	copy(f[dst:], f[src:dst])
	copy(f[src:], l.backend)
	f[dst-1] = w.backend
	ports := f[l.l4():]
	ports[0], ports[1], ports[2], ports[3] = ports[2], ports[3], ports[0], ports[1]
	if l.mode == service.FullNAT {
		copy(f[dst:], l.backend)
		f[dst+size-1] = w.source
		binary.BigEndian.PutUint16(ports[2:], w.port)
	}
	if l.family == 4 {
		packettest.FixIPv4(f[packet.EthernetLen:])
	}
}
