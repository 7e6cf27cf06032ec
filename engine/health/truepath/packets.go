package truepath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// headroom is how many bytes may be added in front of a frame: an outer IPv6 header and a tag.
const headroom = 64

// outerTTL is the TTL of the outer header, as of the kernel's own packets. The inner TTL is 1.
const outerTTL = 64

// translator rewrites packets. Only one goroutine may use it.
type translator struct {
	flows *flows
	own   [2]packet.Addr // the device's addresses, IPv4 and IPv6
	mac   [6]byte        // the device's
	id    uint16         // IPv4 identification of the last outer header
}

// result is the result for one frame.
type result struct {
	start, end int        // the frame to send; empty: none
	path       *Path      // the path to the backend; nil: to the device
	target     netip.Addr // that it was sent to
	err        error      // why it cannot be sent, for the operator
}

// translate rewrites the frame mem[headroom:end], which is a socket's or a backend's. Other frames
// are dropped: router solicitations, answers that no probe waits for, packets of other hosts to a
// target.
func (t *translator) translate(paths map[packet.Addr]*Path, mem []byte, end int, now time.Time) result {
	var m packet.Meta
	if packet.Parse(mem, headroom, end, &m) != counter.None {
		return result{}
	}
	path := paths[m.Dst]
	if path == nil || m.ICMPError {
		start, end := t.in(mem, &m, now)
		return result{start: start, end: end}
	}
	if m.Src != t.own[0] && m.Src != t.own[1] {
		return result{}
	}
	r := result{path: path, target: m.Dst.Netip()}
	r.start, r.end, r.err = t.out(mem, &m, path, now)
	return r
}

// out converts the frame mem[start:end] of a socket into the one for the backend, and returns its
// start and end. The error is meant for the operator.
func (t *translator) out(mem []byte, m *packet.Meta, path *Path, now time.Time) (start, end int, err error) {
	if path.Why != "" {
		return 0, 0, errors.New(path.Why)
	}
	length := m.End - m.L3
	if path.Mode == service.TUN {
		length += tunnelLen(path.Backend)
	}
	if length > path.Link.MTU {
		return 0, 0, fmt.Errorf("a packet of %d bytes is longer than the path's MTU of %d", length, path.Link.MTU)
	}
	f := t.flows.out(socket{m.Dst, m.SrcPort, m.Proto}, path, now)
	rewrite.NATBoth(mem, m, path.Own, f.port, path.VIP, path.Port)
	if path.Mode == service.TUN {
		t.id++
		m.TTL = outerTTL
		rewrite.Encap(mem, m, path.Outer, path.Backend, t.id)
	}
	return rewrite.SetLink(mem, m, &path.Link), int(m.End), nil
}

func tunnelLen(backend packet.Addr) uint16 {
	if backend.Is4() {
		return packet.IPv4Len
	}
	return packet.IPv6Len
}

// in converts a backend's frame into one for the socket, and returns its start and end: equal if it
// answers no probe.
func (t *translator) in(mem []byte, m *packet.Meta, now time.Time) (start, end int) {
	ours, theirs, port, from := m.Dst, m.Src, m.DstPort, m.SrcPort
	if m.ICMPError { // it quotes a packet that we sent
		ours, theirs, port, from = m.Src, m.Dst, m.SrcPort, m.DstPort
	}
	f := t.flows.in(port, now)
	if f == nil || f.socket.proto != m.Proto || f.path.Own != ours || f.path.VIP != theirs || f.path.Port != from || m.TTL == 0 {
		return 0, 0
	}
	own := t.own[0]
	if m.Family == 6 {
		own = t.own[1]
	}
	if m.ICMPError {
		rewrite.ICMPBoth(mem, m, own, f.socket.port, f.socket.target, f.path.Port)
	} else {
		complete(mem, m)
		rewrite.NATBoth(mem, m, f.socket.target, f.path.Port, own, f.socket.port)
	}
	// The source is a locally administered address that is not the device's own.
	link := rewrite.Link{DMAC: t.mac, SMAC: [6]byte{2, 0, 0, 0, 0, 1}}
	return rewrite.SetLink(mem, m, &link), int(m.End)
}

// complete completes a checksum that the sender left to hardware which never saw the packet. Such
// packets are common between virtual machines and containers, and the kernel would accept them from
// its own link. The field then has the sum of the pseudo-header only (CHECKSUM_PARTIAL,
// include/linux/skbuff.h). Any other wrong checksum stays wrong.
func complete(mem []byte, m *packet.Meta) {
	l4 := mem[m.L4:m.End]
	at := 16
	if m.Proto == packet.UDP {
		at = 6
	}
	field := l4[at : at+2]
	pseudo := packet.Sum(0).Pseudo(m.Src, m.Dst, m.Proto, len(l4))
	if binary.BigEndian.Uint16(field) != pseudo.Fold() {
		return
	}
	binary.BigEndian.PutUint16(field, 0)
	sum := pseudo.Bytes(l4).Checksum()
	if sum == 0 && m.Proto == packet.UDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}
