package netlab_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
)

// udpFrame returns a datagram from 10.0.0.9 to port 7000 of 10.0.0.2 in an Ethernet frame.
func udpFrame(t *testing.T, from, to net.HardwareAddr, payload string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{10, 0, 0, 9}, DstIP: net.IP{10, 0, 0, 2}}
	udp := &layers.UDP{SrcPort: 7001, DstPort: 7000}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: from, DstMAC: to, EthernetType: layers.EthernetTypeIPv4}, ip, udp, gopacket.Payload(payload)))
	return buf.Bytes()
}

func mac(t *testing.T, h *netlab.Host, ifname string) net.HardwareAddr {
	t.Helper()
	m, err := h.MAC(ifname)
	must(t, err)
	return m
}

// receiver listens on 10.0.0.2:7000 of a host and returns the payloads that it receives.
func receiver(t *testing.T, h *netlab.Host) (next func() string) {
	t.Helper()
	server, err := h.ListenPacket("udp", "10.0.0.2:7000")
	must(t, err)
	t.Cleanup(func() { server.Close() })
	must(t, server.SetDeadline(time.Now().Add(waitLimit)))
	return func() string {
		t.Helper()
		buf := make([]byte, 2048)
		n, _, err := server.ReadFrom(buf)
		must(t, err)
		return string(buf[:n])
	}
}

// TestXSKTransmit: an AF_XDP socket sends from a veth on any queue, with and without an XDP program
// or GRO at the peer.
func TestXSKTransmit(t *testing.T) {
	for _, peerXDP := range []bool{false, true} {
		t.Run(fmt.Sprint("PeerXDP ", peerXDP), func(t *testing.T) {
			lab := newLab(t, "xsk")
			sender, peer := newHost(t, lab, "sender"), newHost(t, lab, "peer")
			must(t, lab.Link(peer, "eth0", sender, "eth0", netlab.LinkOptions{Queues: 2, PeerXDP: peerXDP}))
			must(t, peer.Addr("eth0", "10.0.0.2/24"))
			next := receiver(t, peer)
			for queue := range 2 {
				want := fmt.Sprint("from queue ", queue)
				frame := udpFrame(t, mac(t, sender, "eth0"), mac(t, peer, "eth0"), want)
				socket := newXSK(t, sender, queue)
				descs := socket.GetDescs(1)
				descs[0].Len = uint32(copy(socket.GetFrame(descs[0]), frame))
				if socket.Transmit(descs) != 1 {
					t.Fatal("the socket did not take the frame")
				}
				if got := next(); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				must(t, socket.Close())
			}
		})
	}
}

func newXSK(t *testing.T, h *netlab.Host, queue int) (socket *xdp.Socket) {
	t.Helper()
	must(t, h.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err == nil {
			socket, err = xdp.NewSocket(device.Index, queue, &xdp.SocketOptions{NumFrames: 64, FrameSize: 2048,
				FillRingNumDescs: 64, CompletionRingNumDescs: 64, RxRingNumDescs: 64, TxRingNumDescs: 64})
		}
		return err
	}))
	return socket
}

// TestRedirectNeedsPeerXDP: frames that an XDP program redirects into a veth are lost unless its
// peer has a program.
func TestRedirectNeedsPeerXDP(t *testing.T) {
	lab := newLab(t, "redirect")
	src, mid, dst := newHost(t, lab, "src"), newHost(t, lab, "mid"), newHost(t, lab, "dst")
	must(t, lab.Link(src, "eth0", mid, "in", netlab.LinkOptions{}))
	must(t, lab.Link(dst, "eth0", mid, "out", netlab.LinkOptions{}))
	must(t, dst.Addr("eth0", "10.0.0.2/24"))
	next := receiver(t, dst)
	redirect(t, lab, mid, "in", "out")
	send := func(payload string, count uint64) {
		t.Helper()
		sendRaw(t, src, udpFrame(t, mac(t, src, "eth0"), mac(t, dst, "eth0"), payload))
		eventually(t, "the frame is redirected", func() bool { return redirected(t, mid, "in") >= count })
	}
	// The payload identifies the frame, so that the peer's own traffic does not count.
	send("without", 1)
	must(t, dst.PassXDP("eth0"))
	if on := offloads(t, dst, "eth0"); len(on) > 0 {
		t.Errorf("with a program the interface has %v", on)
	}
	send("with", 2)
	if got := next(); got != "with" {
		t.Errorf("the frame %q arrived first; %q is the one sent with a program at the peer", got, "with")
	}
}

// redirect attaches to an interface a program that sends every UDP-sized frame out of another one.
func redirect(t *testing.T, lab *netlab.Lab, h *netlab.Host, from, to string) {
	t.Helper()
	must(t, h.Do(func() error {
		in, err := net.InterfaceByName(from)
		if err != nil {
			return err
		}
		out, err := net.InterfaceByName(to)
		if err != nil {
			return err
		}
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, int32(out.Index)),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		}})
		if err != nil {
			return err
		}
		defer program.Close()
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: in.Index, Flags: link.XDPDriverMode})
		if err == nil {
			lab.CloseLater(attached)
		}
		return err
	}))
}

func sendRaw(t *testing.T, h *netlab.Host, frame []byte) {
	t.Helper()
	must(t, h.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: device.Index})
	}))
}

// redirected counts the frames that an XDP program redirected; those that the kernel refused are
// drops.
func redirected(t *testing.T, h *netlab.Host, ifname string) (frames uint64) {
	t.Helper()
	must(t, h.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		stats, err := tool.Stats(ifname)
		for name, n := range stats {
			if strings.HasSuffix(name, "_xdp_redirect") || strings.HasSuffix(name, "_drops") {
				frames += n
			}
		}
		return err
	}))
	return frames
}
