package steer_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/asavie/xdp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

// wire is the far end of a port's cable.
type wire struct{ fd int }

func newWire(t *testing.T, peer netlink.Link) wire {
	t.Helper()
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: peer.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return wire{fd}
}

func (w wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// resets reads frames until a TCP reset from the given port, and returns the source ports of all
// resets.
func (w wire) resets(t *testing.T, until layers.TCPPort) (ports []layers.TCPPort) {
	t.Helper()
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(w.fd, buffer)
		if err != nil {
			t.Fatalf("waiting for a reset from port %d: %v", until, err)
		}
		decoded := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default)
		segment, ok := decoded.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok || !segment.RST {
			continue
		}
		if ports = append(ports, segment.SrcPort); segment.SrcPort == until {
			return ports
		}
	}
}

// holdAddress gives the kernel behind the port an address, and the client a neighbour entry there.
func holdAddress(t *testing.T, device netlink.Link, address string) {
	t.Helper()
	if err := netlink.AddrAdd(device, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{LinkIndex: device.Attrs().Index, Dst: &net.IPNet{IP: net.ParseIP(client4), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	neighbour := &netlink.Neigh{LinkIndex: device.Attrs().Index, IP: net.ParseIP(client4), HardwareAddr: theirMAC, State: netlink.NUD_PERMANENT}
	if err := netlink.NeighSet(neighbour); err != nil {
		t.Fatal(err)
	}
}

// TestTraffic sends real frames to a port of a kernel that has the service's address. Without a
// socket the kernel never sees, and never resets, the service's connections, only others; with one,
// the socket gets the frames.
func TestTraffic(t *testing.T) {
	for _, mode := range []steer.Mode{steer.Native, steer.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			enterNamespace(t)
			device, peer := veth(t)
			holdAddress(t, device, web4)
			cable := newWire(t, peer)
			program := load(t)
			rules := testRules()
			rules.Stations = []steer.Station{{Ifindex: device.Attrs().Index, MAC: [6]byte(device.Attrs().HardwareAddr)}}
			if err := program.Set(rules); err != nil {
				t.Fatal(err)
			}
			port := attach(t, program, device, mode)
			syn := func(to layers.TCPPort) []byte {
				frame := packet(t, ip(client4, web4, pTCP), tcp(1234, to))
				copy(frame, device.Attrs().HardwareAddr)
				return frame
			}

			cable.send(t, syn(80))
			cable.send(t, syn(81))
			if got := cable.resets(t, 81); len(got) != 1 {
				t.Errorf("resets from ports %v: service traffic got to the kernel", got)
			}
			expectCounters(t, port, 0, 1)

			socket, err := xdp.NewSocket(device.Attrs().Index, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			socket.Fill(socket.GetDescs(16))
			if err := port.Register(0, socket.FD()); err != nil {
				t.Fatal(err)
			}
			cable.send(t, syn(80))
			received, _, err := socket.Poll(int((10 * time.Second).Milliseconds()))
			if err != nil || received != 1 {
				t.Fatalf("the socket got %d frames (%v)", received, err)
			}
			if got := socket.GetFrame(socket.Receive(received)[0]); !bytes.Equal(got, syn(80)) {
				t.Errorf("the socket got\n%x, want\n%x", got, syn(80))
			}
			expectCounters(t, port, 1, 1)

			if err := port.Unregister(0); err != nil {
				t.Fatal(err)
			}
			cable.send(t, syn(80))
			expectCounters(t, port, 1, 2)
		})
	}
}

// expectCounters waits until the port has seen as many frames for services.
func expectCounters(t *testing.T, port *steer.Port, redirected, noSocket uint64) {
	t.Helper()
	eventually(t, "redirected and dropped frames are counted", func() bool {
		c, err := port.Counters()
		if err != nil {
			t.Fatal(err)
		}
		if c.Redirected > redirected || c.NoSocket > noSocket {
			t.Fatalf("counters %+v, want %d redirected, %d without socket", c, redirected, noSocket)
		}
		return c.Redirected == redirected && c.NoSocket == noSocket
	})
}
