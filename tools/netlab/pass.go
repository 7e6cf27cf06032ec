package netlab

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// xdpPass is XDP_PASS of enum xdp_action, include/uapi/linux/bpf.h.
const xdpPass = 2

// PassXDP attaches, in the driver, an XDP program that passes everything, until the lab is closed.
// With it a veth polls its queues, so that its peer takes frames that are redirected to it.
func (h *Host) PassXDP(ifname string) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "netlab_pass",
		Type: ebpf.XDP,
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, xdpPass),
			asm.Return(),
		},
	})
	if err != nil {
		return fmt.Errorf("netlab: loading the XDP pass program: %w", err)
	}
	defer program.Close() // the attachment keeps it
	return h.Do(func() error {
		device, err := net.InterfaceByName(ifname)
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: %w", h.name, ifname, err)
		}
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: device.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: attaching the XDP pass program: %w", h.name, ifname, err)
		}
		h.lab.CloseLater(attached)
		return nil
	})
}
