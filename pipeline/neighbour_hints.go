package pipeline

import (
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// neighbourHints records through which neighbour the first packets of recent clients came. A client
// in a connected network may be new to the kernel, which learns its MAC address from the client's
// own ARP request just before we see its packet, and reports it some milliseconds later: the first
// reply would be lost without the hint.
//
// A hint is used only while the next-hop table knows that the client is in a connected network but
// not its MAC address. A newer client with the same index replaces an older one.
type neighbourHints [256]struct {
	client packet.Addr
	link   rewrite.Link
}

// hintMTU is the MTU that every neighbour accepts.
const hintMTU = 1500

// hintIndex returns the index of a client's hint.
func hintIndex(client packet.Addr) uint8 {
	return uint8((client.Lo ^ client.Hi) * 0x9e3779b97f4a7c15 >> 56)
}

// record stores the neighbour that sent the client's frame. l2 is the offset of the frame's
// Ethernet header as it was received, vlan the identifier of its tag.
func (h *neighbourHints) record(f *Frame, client packet.Addr, l2 int, vlan uint16) {
	e := &h[hintIndex(client)]
	ether := f.Mem[l2:]
	e.client = client
	l := &e.link // field by field: the compiler would build a whole Link on the stack and copy it
	l.DMAC, l.SMAC, l.VLAN, l.MTU, l.Port = [6]byte(ether[6:]), [6]byte(ether), vlan, hintMTU, f.Port
}

// lookup returns the link to the client, nil if there is no hint.
func (h *neighbourHints) lookup(client packet.Addr) *rewrite.Link {
	if e := &h[hintIndex(client)]; e.client == client && e.link.MTU != 0 {
		return &e.link
	}
	return nil
}
