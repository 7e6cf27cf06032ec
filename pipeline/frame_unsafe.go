package pipeline

import (
	"unsafe"

	"sluice/pipeline/packet"
)

// headers are the headers of a frame for which packet.HeadersAt gave some: to ask again would cost
// more than to read them.
func (f *Frame) headers() *packet.Headers {
	return (*packet.Headers)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(f.Mem)), f.Start))
}
