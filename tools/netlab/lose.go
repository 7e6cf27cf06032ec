package netlab

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Offsets in struct __sk_buff, include/uapi/linux/bpf.h.
const skbProtocol = 16

// Values of enum tcx_action_base, include/uapi/linux/bpf.h.
const (
	tcxPass = 0
	tcxDrop = 2
)

// EtherTypes as a little-endian program reads them from __sk_buff.
const (
	ethIPv4 = 0x0008
	ethIPv6 = 0xdd86
)

// Loss is an interface that loses TCP segments.
type Loss struct{ counts *ebpf.Map }

// LoseTCP makes the interface lose a percentage of the TCP segments that it receives, at random,
// until the lab is closed. It loses nothing else, so that neighbours stay known. The program runs
// at the ingress of traffic control, because netem is not in every kernel, and because an XDP
// program would make the kernel forget by which queue a packet should leave.
func (h *Host) LoseTCP(ifname string, percent int32) (*Loss, error) {
	l, err := h.loseTCP(ifname, percent)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: interface %s: losing %d %% of TCP: %w", h.name, ifname, percent, err)
	}
	return l, nil
}

func (h *Host) loseTCP(ifname string, percent int32) (*Loss, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Name: "netlab_loss", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2})
	if err != nil {
		return nil, err
	}
	h.lab.CloseLater(counts)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "netlab_lose_tcp", Type: ebpf.SchedCLS, Instructions: lossProgram(counts.FD(), percent)})
	if err != nil {
		return nil, err
	}
	defer program.Close() // the attachment keeps it
	err = h.Do(func() error {
		device, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		attached, err := link.AttachTCX(link.TCXOptions{Program: program, Interface: device.Index, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			h.lab.CloseLater(attached)
		}
		return err
	})
	return &Loss{counts}, err
}

// lossProgram counts TCP segments in the map: those that pass at key 0, those that are lost at 1.
func lossProgram(counts int, percent int32) asm.Instructions {
	const skb, verdict = asm.R6, asm.R7
	return asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(asm.R3, skb, skbProtocol, asm.Word),
		asm.Mov.Imm(asm.R2, 14+9), // offset of the protocol in an Ethernet frame with IPv4
		asm.JEq.Imm(asm.R3, ethIPv4, "read"),
		asm.Mov.Imm(asm.R2, 14+6), // of the next header
		asm.JNE.Imm(asm.R3, ethIPv6, "pass"),
		asm.Mov.Reg(asm.R1, skb).WithSymbol("read"),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 1),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R3, asm.RFP, -8, asm.Byte),
		asm.JNE.Imm(asm.R3, 6, "pass"), // TCP
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm32(asm.R0, 100),
		asm.Mov.Imm(verdict, tcxDrop),
		asm.StoreImm(asm.RFP, -4, 1, asm.Word),
		asm.JLT.Imm(asm.R0, percent, "count"),
		asm.Mov.Imm(verdict, tcxPass),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts).WithSymbol("count"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R0, verdict),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxPass).WithSymbol("pass"),
		asm.Return(),
	}
}

// Counts returns how many segments have passed, and how many were lost.
func (l *Loss) Counts() (passed, lost uint64, err error) {
	if err = l.counts.Lookup(uint32(0), &passed); err == nil {
		err = l.counts.Lookup(uint32(1), &lost)
	}
	return passed, lost, err
}
