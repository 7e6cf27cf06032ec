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

// Loss is an interface that loses packets.
type Loss struct{ counts *ebpf.Map }

// LoseTCP makes the interface lose a percentage of the TCP segments that it receives, at random,
// until the lab is closed. It loses nothing else, so that neighbours stay known. The program runs
// at the ingress of traffic control, because netem is not in every kernel, and because an XDP
// program would make the kernel forget by which queue a packet should leave.
func (h *Host) LoseTCP(ifname string, percent int32) (*Loss, error) {
	l, err := h.lose(ifname, chooseTCP(percent), tcxDrop)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: interface %s: losing %d %% of TCP: %w", h.name, ifname, percent, err)
	}
	return l, nil
}

// LoseTOS makes the interface lose the IPv4 packets that it receives with this type of service,
// until the lab is closed, before a bridge or the host has any work with them.
func (h *Host) LoseTOS(ifname string, tos byte) (*Loss, error) {
	l, err := h.lose(ifname, chooseTOS(tos), tcxDrop)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: interface %s: losing packets with type of service %#x: %w", h.name, ifname, tos, err)
	}
	return l, nil
}

// lose counts what choose distinguishes, and gives the packets at "lose" this verdict.
func (h *Host) lose(ifname string, choose asm.Instructions, verdict int32) (*Loss, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Name: "netlab_loss", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2})
	if err != nil {
		return nil, err
	}
	h.lab.CloseLater(counts)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "netlab_lose", Type: ebpf.SchedCLS, Instructions: lossProgram(counts.FD(), choose, verdict)})
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

// Registers that the parts of a program share.
const (
	lossSKB     = asm.R6
	lossVerdict = asm.R7
)

// lossProgram counts packets in the map: those that pass at key 0, those that are lost at 1. choose
// jumps to "pass" for packets that are not counted, and to "lose", or goes on, for others.
func lossProgram(counts int, choose asm.Instructions, verdict int32) asm.Instructions {
	begin := asm.Instructions{asm.Mov.Reg(lossSKB, asm.R1)}
	return append(append(begin, choose...),
		asm.Mov.Imm(lossVerdict, tcxPass),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Ja.Label("count"),
		asm.Mov.Imm(lossVerdict, verdict).WithSymbol("lose"),
		asm.StoreImm(asm.RFP, -4, 1, asm.Word),
		asm.LoadMapPtr(asm.R1, counts).WithSymbol("count"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R0, lossVerdict),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxPass).WithSymbol("pass"),
		asm.Return(),
	)
}

// loadByte loads into R3 the byte of the packet at the offset in R2. label names its beginning.
func loadByte(label string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, lossSKB).WithSymbol(label),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 1),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R3, asm.RFP, -8, asm.Byte),
	}
}

// chooseTCP loses a percentage of the TCP segments.
func chooseTCP(percent int32) asm.Instructions {
	begin := asm.Instructions{
		asm.LoadMem(asm.R3, lossSKB, skbProtocol, asm.Word),
		asm.Mov.Imm(asm.R2, 14+9), // offset of the protocol in an Ethernet frame with IPv4
		asm.JEq.Imm(asm.R3, ethIPv4, "read"),
		asm.Mov.Imm(asm.R2, 14+6), // of the next header
		asm.JNE.Imm(asm.R3, ethIPv6, "pass"),
	}
	return append(append(begin, loadByte("read")...),
		asm.JNE.Imm(asm.R3, 6, "pass"), // TCP
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm32(asm.R0, 100),
		asm.JLT.Imm(asm.R0, percent, "lose"))
}

// chooseTOS loses IPv4 packets of one type of service.
func chooseTOS(tos byte) asm.Instructions {
	begin := asm.Instructions{
		asm.LoadMem(asm.R3, lossSKB, skbProtocol, asm.Word),
		asm.JNE.Imm(asm.R3, ethIPv4, "pass"),
		asm.Mov.Imm(asm.R2, 14+1),
	}
	return append(append(begin, loadByte("read")...), asm.JEq.Imm(asm.R3, int32(tos), "lose"))
}

// CountRST loses nothing, and counts the TCP segments with RST that the interface receives in place
// of lost ones, until the lab is closed. Those in a tunnel count only if an XDP program has
// decapsulated them.
func (h *Host) CountRST(ifname string) (*Loss, error) {
	l, err := h.lose(ifname, chooseRST(), tcxPass)
	if err != nil {
		return nil, fmt.Errorf("netlab: %s: interface %s: counting RSTs: %w", h.name, ifname, err)
	}
	return l, nil
}

// chooseRST chooses segments that have RST, behind headers without options or extensions.
func chooseRST() asm.Instructions {
	const (
		saved = -12 // the offset of the flags, on the stack
		flags = 13  // their offset in the TCP header
		rst   = 1 << 2
	)
	begin := asm.Instructions{
		asm.LoadMem(asm.R3, lossSKB, skbProtocol, asm.Word),
		asm.Mov.Imm(asm.R2, 14+9),
		asm.StoreImm(asm.RFP, saved, 14+20+flags, asm.Word),
		asm.JEq.Imm(asm.R3, ethIPv4, "read"),
		asm.Mov.Imm(asm.R2, 14+6),
		asm.StoreImm(asm.RFP, saved, 14+40+flags, asm.Word),
		asm.JNE.Imm(asm.R3, ethIPv6, "pass"),
	}
	begin = append(append(begin, loadByte("read")...),
		asm.JNE.Imm(asm.R3, 6, "pass"),
		asm.LoadMem(asm.R2, asm.RFP, saved, asm.Word))
	return append(append(begin, loadByte("flags")...),
		asm.And.Imm(asm.R3, rst),
		asm.JNE.Imm(asm.R3, 0, "lose"))
}

// Counts returns how many packets of those that may be lost have passed, and how many were lost.
func (l *Loss) Counts() (passed, lost uint64, err error) {
	if err = l.counts.Lookup(uint32(0), &passed); err == nil {
		err = l.counts.Lookup(uint32(1), &lost)
	}
	return passed, lost, err
}
