// Package pcap reads the Ethernet frames of pcap and pcapng files, which may be damaged or made to
// do harm: whatever a file says, it takes no more memory than a few frames.
//
// Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. gopacket's readers do the reading;
// they allocate what a length in the file says, and panic on some damaged files.
package pcap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Packet is one packet of a file.
type Packet struct {
	At        time.Time
	Frame     []byte // as recorded, possibly cut
	Length    int    // bytes of the frame on the wire
	Interface string // name of the interface that recorded it; "": unknown
}

// Reader reads the packets of one file. Only one goroutine may use it.
type Reader struct {
	source gopacket.PacketDataSource
	ng     *pcapgo.NgReader // source, if the file is a pcapng file
	link   layers.LinkType
	read   int // packets so far
}

// Limits on what a file may contain.
const (
	maxFrame = 256 << 10 // bytes: tcpdump's maximum
	maxBlock = 16 << 20  // bytes: a block of a pcapng file
)

// NewReader reads the head of a file.
func NewReader(file io.Reader) (r *Reader, err error) {
	defer guard(&err)
	in := bufio.NewReaderSize(file, 64<<10)
	switch magic, err := in.Peek(4); {
	case err != nil:
		return nil, errors.New("the file is empty or too short: record one with tcpdump -w")
	case binary.LittleEndian.Uint32(magic) == sectionHeader:
		source, err := pcapgo.NewNgReader(&blocks{in: in}, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return nil, fmt.Errorf("not a pcapng file: %w", err)
		}
		return &Reader{source: source, ng: source}, nil
	}
	source, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("neither a pcap nor a pcapng file: %w", err)
	}
	// Some programs write longer packets than the head of the file says.
	source.SetSnaplen(maxFrame)
	return &Reader{source: source, link: source.LinkType()}, nil
}

// guard turns a panic of the library into an error.
func guard(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the file is damaged: %v", p)
	}
}

// Next returns the next packet, or io.EOF after the last one.
func (r *Reader) Next() (p Packet, err error) {
	defer guard(&err)
	data, info, err := r.source.ReadPacketData()
	if errors.Is(err, io.EOF) {
		return p, io.EOF
	}
	if r.read++; err != nil {
		return p, fmt.Errorf("packet %d: the file is damaged or cut off: %w", r.read, err)
	}
	if len(info.AncillaryData) > 0 { // each interface of a pcapng file has a link type
		if of, ok := info.AncillaryData[0].(layers.LinkType); ok {
			r.link = of
		}
	}
	if r.link != layers.LinkTypeEthernet {
		return p, fmt.Errorf("packet %d is of link type %s, not Ethernet: record on an Ethernet interface, not on `any`", r.read, r.link)
	}
	p = Packet{At: info.Timestamp, Frame: data, Length: max(info.Length, len(data))}
	if r.ng != nil {
		if of, err := r.ng.Interface(info.InterfaceIndex); err == nil {
			p.Interface = of.Name
		}
	}
	return p, nil
}

// blocks passes on a pcapng file and checks the lengths in it, block by block.
type blocks struct {
	in    *bufio.Reader
	left  int // bytes of the block
	order binary.ByteOrder
}

// Types of block, and where those with packets have the packet's length.
const (
	sectionHeader  = 0x0a0d0d0a
	oldPacket      = 2
	simplePacket   = 3
	enhancedPacket = 6
)

var packetLength = map[uint32]int{oldPacket: 20, simplePacket: 8, enhancedPacket: 20}

// Read implements io.Reader. It never reads beyond a block.
func (b *blocks) Read(to []byte) (int, error) {
	if b.left == 0 {
		if err := b.begin(); err != nil {
			return 0, err
		}
	}
	n, err := b.in.Read(to[:min(len(to), b.left)])
	if b.left -= n; b.left > 0 && err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// begin checks the head of the next block.
func (b *blocks) begin() error {
	head, err := b.in.Peek(28) // the head of every block that holds a packet
	if len(head) < 12 {
		return err
	}
	if binary.LittleEndian.Uint32(head) == sectionHeader {
		b.order = binary.LittleEndian
		if head[8] == 0x1a {
			b.order = binary.BigEndian
		}
	}
	length := b.order.Uint32(head[4:])
	if length < 12 || length > maxBlock || length%4 != 0 {
		return fmt.Errorf("a block of %d bytes; allowed: 12 to %d, in steps of 4", length, maxBlock)
	}
	if at := packetLength[b.order.Uint32(head)]; at > 0 && len(head) >= at+4 {
		if n := b.order.Uint32(head[at:]); n > maxFrame {
			return fmt.Errorf("a packet of %d bytes; allowed: at most %d", n, maxFrame)
		}
	}
	b.left = int(length)
	return nil
}
