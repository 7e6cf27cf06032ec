package flood

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net"
)

// Mark is the type of service of all packets.
const Mark = 0x04

// Offsets in a frame.
const (
	ipAt        = 14
	l4At        = ipAt + 20
	sourceAt    = ipAt + 12
	frameBytes  = 60
	protocolTCP = 6
	protocolUDP = 17
)

// frames makes frames that differ in their source and, of SYNs, in their sequence number.
type frames struct {
	frame   [frameBytes]byte
	ip, l4  uint32 // sums of the headers without what differs
	sumAt   int    // of the checksum of TCP or UDP
	tcp     bool
	randoms *rand.PCG
}

func newFrames(from, to net.HardwareAddr, t Traffic, seed uint64) *frames {
	s := &frames{tcp: !t.UDP, randoms: rand.NewPCG(seed, 1)}
	f := s.frame[:]
	copy(f, to)
	copy(f[6:], from)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	h, l4 := f[ipAt:l4At], f[l4At:]
	h[0], h[1], h[8] = 0x45, Mark, 64
	target := t.Target.Addr().As4()
	copy(h[16:], target[:])
	binary.BigEndian.PutUint16(l4[2:], t.Target.Port())
	protocol, length := uint32(protocolUDP), len(l4)
	if s.tcp {
		protocol, length = protocolTCP, 24
		l4[12], l4[13] = 24/4<<4, 2 // SYN
		binary.BigEndian.PutUint16(l4[14:], 64240)
		copy(l4[20:], []byte{2, 4, 1460 >> 8, 1460 & 255}) // the greatest segment
		s.sumAt = l4At + 16
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(length))
		copy(l4[8:], "a flood")
		s.sumAt = l4At + 6
	}
	h[9] = byte(protocol)
	binary.BigEndian.PutUint16(h[2:], uint16(20+length))
	s.ip = sum(h)
	s.l4 = sum(l4[:length]) + sum(target[:]) + protocol + uint32(length)
	return s
}

// sum returns the sum of the 16-bit words.
func sum(b []byte) (n uint32) {
	for i := 0; i < len(b); i += 2 {
		n += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return n
}

// checksum returns the Internet checksum of a sum.
func checksum(n uint32) uint16 {
	n = n>>16 + n&0xffff
	return ^uint16(n>>16 + n)
}

// MaxBytes implements tx.Source.
func (s *frames) MaxBytes() int { return frameBytes }

// Next implements tx.Source.
func (s *frames) Next(to []byte, _ int64) int {
	copy(to, s.frame[:])
	random := s.randoms.Uint64()
	source := randomAddr(uint32(random))
	port, sequence := 1024+uint16(random>>32)%64000, bits.Reverse32(uint32(random>>16))
	words := source>>16 + source&0xffff
	binary.BigEndian.PutUint32(to[sourceAt:], source)
	binary.BigEndian.PutUint16(to[ipAt+10:], checksum(s.ip+words))
	binary.BigEndian.PutUint16(to[l4At:], port)
	words += uint32(port)
	if s.tcp {
		binary.BigEndian.PutUint32(to[l4At+4:], sequence)
		words += sequence>>16 + sequence&0xffff
	}
	binary.BigEndian.PutUint16(to[s.sumAt:], checksum(s.l4+words))
	return frameBytes
}

// randomAddr returns one of the addresses from 11.0.0.0 to 110.255.255.255, which belong to no
// network of a testbed.
func randomAddr(random uint32) uint32 { return (11+random>>24%100)<<24 | random&0xffffff }
