package packettest

import "bytes"

// Headroom and ChunkSize are the bytes in front of a placed frame, as XDP leaves them, and of the
// whole chunk.
const (
	Headroom  = 256
	ChunkSize = 4096
)

// Chunk is a frame in the memory around it: Mem[Start:End].
type Chunk struct {
	Mem        []byte
	Start, End int
}

// Place puts a frame into a chunk of its own. The bytes around it are 0xa5, so that what is read or
// left there by mistake shows.
func Place(frame []byte) Chunk {
	mem := bytes.Repeat([]byte{0xa5}, ChunkSize)
	return Chunk{mem, Headroom, Headroom + copy(mem[Headroom:], frame)}
}

// Chunk places the frame that p describes.
func (p Packet) Chunk() Chunk { return Place(p.Frame()) }

// Frame gives the bytes of the frame, in place.
func (c Chunk) Frame() []byte { return c.Mem[c.Start:c.End] }
