package xsk

import "golang.org/x/sys/unix"

// Statistics is what the kernel counts about a socket (XDP_STATISTICS) since it was opened.
type Statistics struct {
	RxDropped       uint64 // frames dropped for reasons other than those below; usually too long
	RxInvalid       uint64 // fill ring entries refused
	TxInvalid       uint64 // TX ring entries refused; their frames are lost until Close
	RxRingFull      uint64 // frames dropped because the worker didn't keep up
	RxFillRingEmpty uint64 // times the driver found no frame to receive into
	TxRingEmpty     uint64 // times the driver found nothing to send
}

// Statistics reads the kernel's counters. Any goroutine may call it; it fails when the socket is
// closed.
func (s *Socket) Statistics() (Statistics, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return Statistics{}, unix.EBADF
	}
	k, err := getsockoptXDP[unix.XDPStatistics](s.fd, unix.XDP_STATISTICS)
	return Statistics{
		RxDropped:       k.Rx_dropped,
		RxInvalid:       k.Rx_invalid_descs,
		TxInvalid:       k.Tx_invalid_descs,
		RxRingFull:      k.Rx_ring_full,
		RxFillRingEmpty: k.Rx_fill_ring_empty_descs,
		TxRingEmpty:     k.Tx_ring_empty_descs,
	}, err
}
