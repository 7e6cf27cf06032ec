package tx

import (
	"fmt"

	"sluice/tools/pktgen/afxdp"
)

// xskOutput sends through an AF_XDP socket.
type xskOutput struct{ socket *afxdp.Socket }

func openXSK(ifindex, queue, longest int) (output, error) {
	if longest > afxdp.FrameBytes {
		return nil, fmt.Errorf("frames of %d bytes are too long for AF_XDP, which has %d", longest, afxdp.FrameBytes)
	}
	s, err := afxdp.OpenSender(ifindex, queue, afxdp.Auto)
	if err != nil {
		return nil, err
	}
	return xskOutput{s}, nil
}

func (x xskOutput) send(n int, fill func([]byte) int) (int, error) {
	return x.socket.Send(min(n, afxdp.KickFrames), fill)
}

// confirm also makes the kernel continue: in copy mode it sends only during system calls.
func (x xskOutput) confirm() (int, error) {
	n := x.socket.Confirm()
	if n == 0 && x.socket.Pending() > 0 {
		if err := x.socket.Kick(); err != nil {
			return 0, err
		}
		n = x.socket.Confirm()
	}
	return n, nil
}

func (x xskOutput) pending() int { return x.socket.Pending() }
func (x xskOutput) close() error { return x.socket.Close() }
