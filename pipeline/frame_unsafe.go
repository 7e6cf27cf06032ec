package pipeline

import (
	"unsafe"

	"sluice/pipeline/packet"
)

// headers returns the headers of a frame that packet.HeadersAt returned headers for. It omits the
// check, which would cost more than reading them.
func (f *Frame) headers() *packet.Headers {
	return (*packet.Headers)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(f.Mem)), f.Start))
}
