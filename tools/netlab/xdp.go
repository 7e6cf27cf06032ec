package netlab

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Values of enum xdp_action, include/uapi/linux/bpf.h.
const (
	xdpDrop = 1
	xdpPass = 2
)

// PassXDP attaches, in the driver, an XDP program that passes everything, until the lab is closed.
// With it a veth polls its queues, so that its peer takes frames that are redirected to it.
func (h *Host) PassXDP(ifname string) error {
	return h.attachXDP(ifname, "netlab_pass", asm.Instructions{
		asm.Mov.Imm(asm.R0, xdpPass),
		asm.Return(),
	})
}

// LoseSYNACKs makes the interface lose one in n of the SYN-ACKs that it receives over IPv4, at
// random, until the lab is closed.
func (h *Host) LoseSYNACKs(ifname string, n int32) error {
	const packet, end = asm.R7, asm.R8
	byteAt := func(offset int16) asm.Instruction { return asm.LoadMem(asm.R3, packet, offset, asm.Byte) }
	return h.attachXDP(ifname, "netlab_lose", asm.Instructions{
		asm.LoadMem(packet, asm.R1, 0, asm.Word), // struct xdp_md: data, data_end
		asm.LoadMem(end, asm.R1, 4, asm.Word),
		asm.Mov.Reg(asm.R2, packet),
		asm.Add.Imm(asm.R2, 54),
		asm.JGT.Reg(asm.R2, end, "pass"),
		byteAt(12), asm.JNE.Imm(asm.R3, 8, "pass"), // IPv4
		byteAt(13), asm.JNE.Imm(asm.R3, 0, "pass"),
		byteAt(14), asm.JNE.Imm(asm.R3, 0x45, "pass"), // without options
		byteAt(23), asm.JNE.Imm(asm.R3, 6, "pass"), // TCP
		byteAt(47), asm.And.Imm(asm.R3, 0x12), asm.JNE.Imm(asm.R3, 0x12, "pass"), // SYN and ACK
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm(asm.R0, n),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"),
		asm.Return(),
	})
}

// attachXDP attaches an XDP program in the driver until the lab is closed.
func (h *Host) attachXDP(ifname, name string, code asm.Instructions) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, Instructions: code})
	if err != nil {
		return fmt.Errorf("netlab: loading the XDP program %s: %w", name, err)
	}
	defer program.Close() // the attachment keeps it
	return h.Do(func() error {
		device, err := net.InterfaceByName(ifname)
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: %w", h.name, ifname, err)
		}
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: device.Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: attaching the XDP program %s: %w", h.name, ifname, name, err)
		}
		h.lab.CloseLater(attached)
		return nil
	})
}
