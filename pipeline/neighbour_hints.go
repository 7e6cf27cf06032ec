package pipeline

import (
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// heard remembers by which neighbour the latest clients' first packets came. A client on the wire
// may be new to the kernel, which learns its MAC address from the client's own question a moment
// before we see its packet, and tells us some milliseconds later: without this the first reply
// would be lost.
//
// It is asked only while the next-hop table knows the client to be on a wire of ours and not its
// address.
type neighbourHints [256]struct {
	client packet.Addr
	link   rewrite.Link
}

// heardMTU is what every neighbour takes.
const hintMTU = 1500

func hintIndex(client packet.Addr) uint8 {
	return uint8((client.Lo ^ client.Hi) * 0x9e3779b97f4a7c15 >> 56)
}

// note remembers whom the client's frame came from, as it was received: at l2, with that tag.
func (h *neighbourHints) record(f *Frame, client packet.Addr, l2 int, vlan uint16) {
	e := &h[hintIndex(client)]
	ether := f.Mem[l2:]
	e.client = client
	l := &e.link // field by field: a whole one would be made elsewhere and copied
	l.DMAC, l.SMAC, l.VLAN, l.MTU, l.Port = [6]byte(ether[6:]), [6]byte(ether), vlan, hintMTU, f.Port
}

// of gives the way back to the client, nil if it was not heard lately.
func (h *neighbourHints) lookup(client packet.Addr) *rewrite.Link {
	if e := &h[hintIndex(client)]; e.client == client && e.link.MTU != 0 {
		return &e.link
	}
	return nil
}
