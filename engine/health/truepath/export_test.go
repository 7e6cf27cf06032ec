package truepath

import (
	"net/netip"
	"time"

	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Headroom is the number of bytes in front of a frame.
const Headroom = headroom

// InUse is how long a quiet flow keeps its port.
const InUse = inUse

// Translator rewrites packets without a device.
type Translator struct{ t translator }

// NewTranslator returns a Translator for a device with these addresses.
func NewTranslator(ports service.Ports, own4, own6 netip.Addr, mac [6]byte) *Translator {
	return &Translator{translator{flows: newFlows(ports), own: [2]packet.Addr{packet.AddrFrom(own4), packet.AddrFrom(own6)}, mac: mac}}
}

// Translate rewrites a frame.
func (t *Translator) Translate(paths map[packet.Addr]*Path, frame []byte, now time.Time) (out []byte, path *Path, err error) {
	mem := make([]byte, headroom+len(frame))
	end := headroom + copy(mem[headroom:], frame)
	r := t.t.translate(paths, mem, end, now)
	return mem[r.start:r.end], r.path, r.err
}
