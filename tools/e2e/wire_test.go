package e2e_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// wire sends and receives raw frames at an interface.
type wire struct {
	t    *testing.T
	fd   int
	mac  net.HardwareAddr // of the interface
	peer net.HardwareAddr // of the other end of the cable
}

// openWire opens an interface that is connected to another one.
func openWire(t *testing.T, h *netlab.Host, ifname string, peer *netlab.Host, peerIf string) *wire {
	t.Helper()
	w := &wire{t: t}
	var err error
	w.mac, err = h.MAC(ifname)
	must(t, err)
	w.peer, err = peer.MAC(peerIf)
	must(t, err)
	must(t, h.Do(func() error {
		device, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all)); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// frontWire returns the router's end of the cable to the balancer's first port.
func frontWire(t *testing.T, b *testbed.Bed) *wire {
	return openWire(t, b.Router, "front", b.Balancer, testbed.Front)
}

// send sends one frame; it waits while the queue of the interface is full.
func (w *wire) send(frame []byte) {
	w.t.Helper()
	poll(w.t, "sending a frame", func() error {
		_, err := unix.Write(w.fd, frame)
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EAGAIN) {
			return err
		}
		must(w.t, err)
		return nil
	})
}

// await returns the first matching packet that arrives.
func (w *wire) await(what string, wanted func(gopacket.Packet) bool) gopacket.Packet {
	w.t.Helper()
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(waitLimit); ; {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().Before(deadline):
			ready := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
			unix.Poll(ready, 100)
			continue
		case err != nil:
			w.t.Fatalf("%s did not come within %v: %v", what, waitLimit, err)
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		p := gopacket.NewPacket(append([]byte(nil), buf[:n]...), layers.LayerTypeEthernet, gopacket.Default)
		if wanted(p) {
			return p
		}
	}
}

// ethernet returns the header of a frame from this end to the other.
func (w *wire) ethernet(to netip.Addr) *layers.Ethernet {
	kind := layers.EthernetTypeIPv4
	if to.Is6() {
		kind = layers.EthernetTypeIPv6
	}
	return &layers.Ethernet{SrcMAC: w.mac, DstMAC: w.peer, EthernetType: kind}
}

type ipLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

func ip(from, to netip.Addr, next layers.IPProtocol) ipLayer {
	if from.Is6() {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	}
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
}

// tcp returns a segment; set changes its header.
func (w *wire) tcp(from, to netip.AddrPort, set func(*layers.TCP), payload string) []byte {
	network := ip(from.Addr(), to.Addr(), layers.IPProtocolTCP)
	segment := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: 1000, Window: 65535}
	set(segment)
	segment.SetNetworkLayerForChecksum(network)
	return serialize(w.t, w.ethernet(to.Addr()), network, segment, gopacket.Payload(payload))
}

// udp returns a datagram.
func (w *wire) udp(from, to netip.AddrPort, payload string) []byte {
	network := ip(from.Addr(), to.Addr(), layers.IPProtocolUDP)
	datagram := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	datagram.SetNetworkLayerForChecksum(network)
	return serialize(w.t, w.ethernet(to.Addr()), network, datagram, gopacket.Payload(payload))
}

func serialize(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return buf.Bytes()
}

// rightChecksums serializes a packet's IP and transport headers again, which must not change a
// byte.
func rightChecksums(t *testing.T, p gopacket.Packet) {
	t.Helper()
	network := p.NetworkLayer().(ipLayer)
	l := []gopacket.SerializableLayer{p.LinkLayer().(gopacket.SerializableLayer), network}
	switch transport := p.Layers()[2].(type) {
	case *layers.TCP:
		transport.SetNetworkLayerForChecksum(network)
		l = append(l, transport)
	case *layers.ICMPv4:
		l = append(l, transport)
	case *layers.ICMPv6:
		transport.SetNetworkLayerForChecksum(network)
		l = append(l, transport)
	}
	l = append(l, gopacket.Payload(p.Layers()[2].LayerPayload()))
	before := append([]byte(nil), p.Data()...)
	if after := serialize(t, l...); string(after[14:]) != string(before[14:len(after)]) {
		t.Errorf("a checksum is wrong:\n%x, right would be\n%x", before[14:], after[14:])
	}
}
