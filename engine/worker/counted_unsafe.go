package worker

import (
	"unsafe"

	"sluice/pipeline/counter"
)

// countedBytes returns the size of a Counted.
func countedBytes(queues, backends, services int) int {
	return int(unsafe.Sizeof(Totals{})) + queues*int(unsafe.Sizeof(QueueTotals{})) +
		backends*int(unsafe.Sizeof(counter.Backend{})) + services*int(unsafe.Sizeof(counter.Service{}))
}

// countedIn returns the Counted in memory of countedBytes, which is aligned to words.
func countedIn(mem []byte, queues, backends, services int) (c Counted) {
	c.Totals = &take[Totals](&mem, 1)[0]
	c.Queues = take[QueueTotals](&mem, queues)
	c.Backends = take[counter.Backend](&mem, backends)
	c.Services = take[counter.Service](&mem, services)
	return c
}

// take returns n elements at the beginning of mem, which becomes the rest.
func take[T any](mem *[]byte, n int) []T {
	elements := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(*mem))), n)
	*mem = (*mem)[n*int(unsafe.Sizeof(*new(T))):]
	return elements
}
