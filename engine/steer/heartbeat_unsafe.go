package steer

import (
	"sync/atomic"
	"unsafe"
)

// heartbeatSize is the size of a heartbeat in the map's memory.
const heartbeatSize = int(unsafe.Sizeof(atomic.Int64{}))

// heartbeatsIn returns the first n heartbeats in the map's memory, which begins at a page.
func heartbeatsIn(memory []byte, n int) []atomic.Int64 {
	return unsafe.Slice((*atomic.Int64)(unsafe.Pointer(unsafe.SliceData(memory))), n)
}
