package frame

import (
	"encoding/binary"

	"sluice/tools/pktgen/flow"
)

// StampBytes is the size of a stamp.
const StampBytes = 18

const stampMagic = 0x5167

// Stamp identifies a frame.
type Stamp struct {
	Stream   uint8
	Flow     uint32 // below flow.MaxFlows
	Sequence uint32
	TimeNS   int64 // CLOCK_MONOTONIC
}

// put writes the stamp to the first StampBytes of b.
func (s Stamp) put(b []byte) {
	binary.BigEndian.PutUint16(b, stampMagic)
	binary.BigEndian.PutUint32(b[2:], uint32(s.Stream)<<24|s.Flow)
	binary.BigEndian.PutUint32(b[6:], s.Sequence)
	binary.BigEndian.PutUint64(b[10:], uint64(s.TimeNS))
}

// getStamp reads the stamp at the start of a payload.
func getStamp(b []byte) (s Stamp, ok bool) {
	if len(b) < StampBytes || binary.BigEndian.Uint16(b) != stampMagic {
		return Stamp{}, false
	}
	id := binary.BigEndian.Uint32(b[2:])
	return Stamp{
		Stream:   uint8(id >> 24),
		Flow:     id & (flow.MaxFlows - 1),
		Sequence: binary.BigEndian.Uint32(b[6:]),
		TimeNS:   int64(binary.BigEndian.Uint64(b[10:])),
	}, true
}
