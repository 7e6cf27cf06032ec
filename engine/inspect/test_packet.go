package inspect

import (
	"fmt"
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// headroom is the free space in front of a test packet's frame: enough for an outer IPv6 header.
const headroom = 256

// maxTestPacket is the length of the longest IP packet that a frame here can hold, in bytes.
const maxTestPacket = platform.FrameSize - 2*headroom

// testPacket returns a frame with the tuple's packet, in a chunk of its own. For TCP it is the
// first segment of a connection, or one of its middle. With a length in the tuple it has that
// length and must not be fragmented.
func testPacket(q api.Tuple, smac, dmac [6]byte, middle bool) (pipeline.Frame, error) {
	if q.Bytes > maxTestPacket {
		return pipeline.Frame{}, fmt.Errorf("%d bytes do not fit a frame: ask for at most %d", q.Bytes, maxTestPacket)
	}
	var network gopacket.SerializableLayer
	var sum gopacket.NetworkLayer
	ether := &layers.Ethernet{SrcMAC: net.HardwareAddr(smac[:]), DstMAC: net.HardwareAddr(dmac[:]), EthernetType: layers.EthernetTypeIPv4}
	headers := packet.IPv4Len
	if q.From.Addr().Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocol(q.Protocol), SrcIP: q.From.Addr().AsSlice(), DstIP: q.To.Addr().AsSlice()}
		if q.Bytes > 0 {
			ip.Flags = layers.IPv4DontFragment
		}
		network, sum = ip, ip
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocol(q.Protocol), SrcIP: q.From.Addr().AsSlice(), DstIP: q.To.Addr().AsSlice()}
		network, sum = ip, ip
		ether.EthernetType, headers = layers.EthernetTypeIPv6, packet.IPv6Len
	}
	var transport gopacket.SerializableLayer
	if q.Protocol == service.TCP {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(q.From.Port()), DstPort: layers.TCPPort(q.To.Port()), SYN: !middle, ACK: middle, Window: 65535}
		transport, headers = tcp, headers+packet.TCPLen
		_ = tcp.SetNetworkLayerForChecksum(sum) // fails for other layers than IP only
	} else {
		udp := &layers.UDP{SrcPort: layers.UDPPort(q.From.Port()), DstPort: layers.UDPPort(q.To.Port())}
		transport, headers = udp, headers+packet.UDPLen
		_ = udp.SetNetworkLayerForChecksum(sum)
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	err := gopacket.SerializeLayers(buf, options, ether, network, transport, gopacket.Payload(make([]byte, max(0, q.Bytes-headers))))
	if err != nil {
		return pipeline.Frame{}, err
	}
	return frameOf(buf.Bytes()), nil
}

// frameOf puts a frame into a chunk of its own, with headroom.
func frameOf(bytes []byte) pipeline.Frame {
	mem := make([]byte, platform.FrameSize)
	return pipeline.Frame{Mem: mem, Start: headroom, End: headroom + copy(mem[headroom:], bytes)}
}
