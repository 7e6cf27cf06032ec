package decap_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
	"sluice/tools/netlab/decap"
)

const waitLimit = 20 * time.Second

var (
	outerSrc4, outerSrc6 = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	tunnel4, tunnel6     = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	clientAddr4          = netip.MustParseAddr("192.0.2.7")
	clientAddr6          = netip.MustParseAddr("2001:db8::7")
	vip4, vip6           = netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:1::10")
)

const vipPort = 5353

// bench is a balancer and a backend on one wire: the backend has both VIPs on lo and unwraps.
type bench struct {
	t                 *testing.T
	balancer, backend *netlab.Host
	decap             *decap.Decap
	raw               int // AF_PACKET socket on the balancer's end
}

func newBench(t *testing.T) *bench {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and XDP need root")
	}
	lab, err := netlab.New("decap")
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	b := &bench{t: t}
	b.balancer, err = lab.Host("balancer")
	must(t, err)
	b.backend, err = lab.Host("backend")
	must(t, err)
	must(t, lab.Link(b.balancer, "eth0", b.backend, "eth0", netlab.LinkOptions{}))
	must(t, b.backend.Addr("eth0", tunnel4.String()+"/24", tunnel6.String()+"/64"))
	must(t, b.backend.AddLo(vip4.String()))
	must(t, b.backend.AddLo(vip6.String()))
	// A reply to the client need not arrive, but a host drops what it has no route back to.
	must(t, b.backend.Route("0.0.0.0/0", outerSrc4.String()))
	must(t, b.backend.Route("::/0", outerSrc6.String()))
	must(t, b.backend.Do(func() (err error) {
		b.decap, err = decap.Attach("eth0", tunnel4, tunnel6)
		return err
	}))
	t.Cleanup(func() { must(t, b.decap.Close()) })
	b.raw = b.packetSocket()
	t.Cleanup(func() { unix.Close(b.raw) })
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// packetSocket returns an AF_PACKET socket that sends from the balancer's eth0 and receives
// nothing.
func (b *bench) packetSocket() (fd int) {
	must(b.t, b.balancer.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index})
	}))
	return fd
}

func (b *bench) send(frame []byte) {
	b.t.Helper()
	_, err := unix.Write(b.raw, frame)
	must(b.t, err)
}

// ethernet returns the header of a frame to the backend.
func (b *bench) ethernet(next layers.EthernetType) *layers.Ethernet {
	src, err := b.balancer.MAC("eth0")
	must(b.t, err)
	dst, err := b.backend.MAC("eth0")
	must(b.t, err)
	return &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: next}
}

// listen returns a UDP server on a VIP, and next reads one datagram there.
func (b *bench) listen(vip netip.Addr) (next func() string) {
	server, err := b.backend.ListenPacket("udp", netip.AddrPortFrom(vip, vipPort).String())
	must(b.t, err)
	b.t.Cleanup(func() { server.Close() })
	must(b.t, server.SetDeadline(time.Now().Add(waitLimit)))
	return func() string {
		b.t.Helper()
		buf := make([]byte, 2048)
		n, from, err := server.ReadFrom(buf)
		must(b.t, err)
		return fmt.Sprintf("%s from %s", buf[:n], from)
	}
}

func etherType(is6 bool) layers.EthernetType {
	if is6 {
		return layers.EthernetTypeIPv6
	}
	return layers.EthernetTypeIPv4
}

type ipLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

func ip(src, dst netip.Addr, next layers.IPProtocol) ipLayer {
	if src.Is6() {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

// datagram returns an inner packet from the client to a VIP.
func datagram(src, dst netip.Addr, payload string) []gopacket.SerializableLayer {
	inner := ip(src, dst, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: 40000, DstPort: vipPort}
	udp.SetNetworkLayerForChecksum(inner)
	return []gopacket.SerializableLayer{inner, udp, gopacket.Payload(payload)}
}

func protocolOf(inner netip.Addr) layers.IPProtocol {
	if inner.Is6() {
		return layers.IPProtocolIPv6
	}
	return layers.IPProtocolIPv4
}

func serialize(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return buf.Bytes()
}

// wrapped returns a frame with the datagram inside an outer header to tunnel.
func (b *bench) wrapped(tunnel netip.Addr, inner netip.Addr, layer []gopacket.SerializableLayer) []byte {
	src := outerSrc4
	if tunnel.Is6() {
		src = outerSrc6
	}
	outer := []gopacket.SerializableLayer{b.ethernet(etherType(tunnel.Is6())), ip(src, tunnel, protocolOf(inner))}
	return serialize(b.t, append(outer, layer...)...)
}

// TestUnwrap: a UDP server on a VIP gets the datagram in all four combinations of families, as sent
// by the client.
func TestUnwrap(t *testing.T) {
	b := newBench(t)
	next := map[netip.Addr]func() string{vip4: b.listen(vip4), vip6: b.listen(vip6)}
	for _, tunnel := range []netip.Addr{tunnel4, tunnel6} {
		for vip, client := range map[netip.Addr]netip.Addr{vip4: clientAddr4, vip6: clientAddr6} {
			payload := fmt.Sprintf("to %s inside %s", vip, tunnel)
			b.send(b.wrapped(tunnel, vip, datagram(client, vip, payload)))
			want := payload + " from " + netip.AddrPortFrom(client, 40000).String()
			if got := next[vip](); got != want {
				t.Errorf("the server got %q, want %q", got, want)
			}
		}
	}
	for _, tunnel := range []netip.Addr{tunnel4, tunnel6} {
		if n, err := b.decap.Unwrapped(tunnel); n != 2 || err != nil {
			t.Errorf("unwrapped at %s: %d packets, error %v; want 2", tunnel, n, err)
		}
	}
	if n, err := b.decap.Unwrapped(vip4); n != 0 || err != nil {
		t.Errorf("unwrapped at an address that is none of ours: %d packets, error %v", n, err)
	}
}

// TestOuterOptions: the outer header is as long as it says.
func TestOuterOptions(t *testing.T) {
	b := newBench(t)
	next := b.listen(vip4)
	outer := ip(outerSrc4, tunnel4, layers.IPProtocolIPv4).(*layers.IPv4)
	for range 40 { // the most there can be
		outer.Options = append(outer.Options, layers.IPv4Option{OptionType: 1})
	}
	l := append([]gopacket.SerializableLayer{b.ethernet(layers.EthernetTypeIPv4), outer}, datagram(clientAddr4, vip4, "long")...)
	b.send(serialize(t, l...))
	if got := next(); got != "long from 192.0.2.7:40000" {
		t.Errorf("the server got %q", got)
	}
}

// TestLeftAlone checks that only tunnel packets for this host are decapsulated and that other
// traffic is not disturbed.
func TestLeftAlone(t *testing.T) {
	b := newBench(t)
	next := b.listen(vip4)
	good := b.wrapped(tunnel4, vip4, datagram(clientAddr4, vip4, "bad"))
	good6 := b.wrapped(tunnel6, vip4, datagram(clientAddr4, vip4, "bad"))
	change := func(frame []byte, at int, value byte) []byte {
		f := append([]byte(nil), frame...)
		f[at] = value
		return f
	}
	elsewhere := b.wrapped(outerSrc4, vip4, datagram(clientAddr4, vip4, "bad"))
	for name, frame := range map[string][]byte{
		"another outer destination":   elsewhere,
		"first fragment":              change(good, 14+6, 0x20),
		"later fragment":              change(good, 14+7, 1),
		"outer header too short":      change(good, 14, 0x44),
		"outer version 6 as IPv4":     change(good, 14, 0x65),
		"inner version 6 as IPIP":     change(good, 14+20, 0x65),
		"inner version 4 as IPv6":     change(good, 14+9, 41),
		"GRE":                         change(good, 14+9, 47),
		"IPv6, GRE":                   change(good6, 14+6, 47),
		"IPv6, inner version wrong":   change(good6, 14+40, 0x65),
		"unknown Ethernet type":       change(good, 13, 0xff),
		"cut after the outer header":  good[:14+20],
		"cut in the outer header":     good[:14+19],
		"cut after the outer header6": good6[:14+40],
		"cut in the outer header6":    good6[:14+39],
		"header alone":                good[:14],
	} {
		t.Log(name)
		b.send(frame)
	}
	b.send(serialize(t, append([]gopacket.SerializableLayer{b.ethernet(layers.EthernetTypeIPv4)}, datagram(clientAddr4, vip4, "plain")...)...))
	// The wire keeps the order, so the program has seen all others by now.
	if got := next(); got != "plain from 192.0.2.7:40000" {
		t.Errorf("the server got %q", got)
	}
	for _, tunnel := range []netip.Addr{tunnel4, tunnel6} {
		if n, err := b.decap.Unwrapped(tunnel); n != 0 || err != nil {
			t.Errorf("unwrapped at %s: %d packets, error %v", tunnel, n, err)
		}
	}
}

// TestStream: TCP to the backend itself goes through the program at full frame size.
func TestStream(t *testing.T) {
	b := newBench(t)
	must(t, b.balancer.Addr("eth0", outerSrc4.String()+"/24"))
	l, err := b.backend.Listen("tcp", netip.AddrPortFrom(tunnel4, 80).String())
	must(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	const total = 4 << 20
	go func() {
		c, err := b.balancer.Dial(ctx, "tcp", l.Addr().String())
		if err == nil {
			c.Write(make([]byte, total))
			c.Close()
		}
	}()
	must(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(waitLimit)))
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	got := 0
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != total {
		t.Errorf("got %d bytes, want %d", got, total)
	}
}

// TestAttachErrors checks the messages of errors.
func TestAttachErrors(t *testing.T) {
	b := newBench(t)
	for name, try := range map[string]func() (*decap.Decap, error){
		"no such interface": func() (*decap.Decap, error) { return decap.Attach("eth9", tunnel4) },
		"no address":        func() (*decap.Decap, error) { return decap.Attach("lo") },
		"twice the same":    func() (*decap.Decap, error) { return decap.Attach("lo", tunnel4, tunnel4) },
		"busy":              func() (*decap.Decap, error) { return decap.Attach("eth0", tunnel4) },
	} {
		must(t, b.backend.Do(func() error {
			d, err := try()
			if err == nil {
				d.Close()
				t.Errorf("%s: no error", name)
			}
			t.Logf("%s: %v", name, err)
			return nil
		}))
	}
}
