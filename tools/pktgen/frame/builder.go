package frame

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"sluice/pipeline/packet"
	"sluice/tools/pktgen/flow"
)

// Builder makes one frame after the other. It belongs to one goroutine.
type Builder struct {
	spec     Spec
	stamped  bool
	template Template
	chooser  *flow.Chooser
}

// NewBuilder checks both arguments and starts at the first packet.
func NewBuilder(s Spec, m flow.Model) (*Builder, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := m.Check(s.Source.Size()); err != nil {
		return nil, err
	}
	t, err := NewTemplate(s)
	if err != nil {
		return nil, err
	}
	return &Builder{spec: s, stamped: s.Stamped(), template: t, chooser: flow.NewChooser(m, s.Source.Size())}, nil
}

// MaxBytes returns the length of the longest frame.
func (b *Builder) MaxBytes() int { return b.spec.Largest() }

// Sent returns how many frames of each flow have been made. It changes with each Next; the caller
// must not change it.
func (b *Builder) Sent() []uint32 { return b.chooser.Sent() }

// Next writes the next frame, sent at nowNS of CLOCK_MONOTONIC, to the start of to and returns its
// length. to has at least MaxBytes. Next does not allocate.
func (b *Builder) Next(to []byte, nowNS int64) (bytes int) {
	shot := b.chooser.Next()
	size := b.spec.Sizes[0]
	if n := len(b.spec.Sizes); n > 1 {
		size = b.spec.Sizes[b.chooser.Below(uint32(n))]
	}
	to = to[:size]
	clear(to[b.spec.headerBytes():])
	copy(to, b.template.Ethernet[:])
	ip := to[ethernetBytes:]
	if b.spec.TCP && !b.stamped && shot.Flags == flow.FlagSYN {
		ip = ip[:b.spec.ipBytes()+tcpBytes] // the rest is padding, as after any SYN
	}
	source, destination := b.spec.Source.At(shot.Tuple), b.spec.Destination.At(shot.Tuple)
	l4 := ip[b.spec.ipBytes():]
	b.writeIP(ip, source.Addr(), destination.Addr())
	copy(l4, b.template.L4)
	binary.BigEndian.PutUint16(l4, source.Port())
	binary.BigEndian.PutUint16(l4[2:], destination.Port())
	if b.stamped {
		stamp := Stamp{Stream: b.spec.Stream, Flow: shot.Flow, Sequence: shot.Sequence, TimeNS: nowNS}
		stamp.put(l4[b.spec.l4Bytes():])
	}
	b.finishL4(l4, shot, source.Addr(), destination.Addr())
	return size
}

func (b *Builder) writeIP(ip []byte, source, destination netip.Addr) {
	copy(ip, b.template.IP)
	if b.spec.Is6() {
		binary.BigEndian.PutUint16(ip[ipv6LengthAt:], uint16(len(ip)-ipv6Bytes))
		s, d := source.As16(), destination.As16()
		copy(ip[ipv6SourceAt:], s[12:])
		copy(ip[ipv6DestinationAt:], d[12:])
		return
	}
	binary.BigEndian.PutUint16(ip[ipv4LengthAt:], uint16(len(ip)))
	s, d := source.As4(), destination.As4()
	copy(ip[ipv4SourceAt:], s[:])
	copy(ip[ipv4DestinationAt:], d[:])
	binary.BigEndian.PutUint16(ip[ipv4ChecksumAt:], packet.Sum(0).Bytes(ip[:ipv4Bytes]).Checksum())
}

// finishL4 writes the fields that depend on the rest of a segment or datagram.
func (b *Builder) finishL4(l4 []byte, shot flow.Shot, source, destination netip.Addr) {
	sum := func(protocol uint8) uint16 {
		return packet.Sum(0).Pseudo(packet.AddrFrom(source), packet.AddrFrom(destination), protocol, len(l4)).Bytes(l4).Checksum()
	}
	if b.spec.TCP {
		binary.BigEndian.PutUint32(l4[tcpSequenceAt:], shot.Sequence)
		l4[tcpFlagsAt] = shot.Flags
		binary.BigEndian.PutUint16(l4[tcpChecksumAt:], sum(6))
		return
	}
	binary.BigEndian.PutUint16(l4[udpLengthAt:], uint16(len(l4)))
	checksum := sum(17)
	if checksum == 0 {
		checksum = 0xffff // 0 means no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(l4[udpChecksumAt:], checksum)
}

// String returns a short description of the frames.
func (s Spec) String() string {
	protocol := "udp"
	if s.TCP {
		protocol = "tcp"
	}
	return fmt.Sprintf("%s %s -> %s", protocol, s.Source, s.Destination)
}
