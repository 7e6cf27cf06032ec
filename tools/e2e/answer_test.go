package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"sluice/tools/e2e/testbed"
)

// TestReset: a segment of a connection that Sluice doesn't know is answered with RST.
func TestReset(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, testbed.Paths...))
	w := frontWire(t, b)
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	for _, p := range testbed.Paths {
		from, to := netip.AddrPortFrom(p.Client(), 4321), netip.AddrPortFrom(p.Address(), testbed.WebPort)
		w.send(w.tcp(from, to, func(s *layers.TCP) { s.ACK, s.Ack = true, 0x01020304 }, "unexpected"))
		got := w.await("a RST from "+p.String(), func(g gopacket.Packet) bool {
			s, ok := g.TransportLayer().(*layers.TCP)
			return ok && s.RST && fmt.Sprint(g.NetworkLayer().NetworkFlow()) == fmt.Sprintf("%s->%s", p.Address(), p.Client())
		})
		rightChecksums(t, got)
		s := got.TransportLayer().(*layers.TCP)
		if s.SrcPort != testbed.WebPort || s.DstPort != 4321 || s.Seq != 0x01020304 {
			t.Errorf("%s: the RST is %+v", p, s.Contents)
		}
	}
	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if n := after.Replied - before.Replied; n != uint64(len(testbed.Paths)) {
		t.Errorf("%d replies are counted, for %d segments", n, len(testbed.Paths))
	}
}

// TestNoBackend: when all backends have weight 0, clients are refused at once: by ICMP, TCP and UDP
// alike.
func TestNoBackend(t *testing.T) {
	b := bed(t)
	cfg := config(t, testbed.Paths...)
	zero := 0
	for i := range cfg.Services {
		for j := range cfg.Services[i].Backends {
			cfg.Services[i].Backends[j].Weight = &zero
		}
	}
	start(t, b, cfg)
	ctx := ctxOf(t)
	for _, p := range testbed.Paths {
		if s := b.Ask(ctx, p.URL(), 3); s.Refused != 3 {
			t.Errorf("%s: HTTP requests went %s, want 3 refused", p, &s)
		}
		if s := b.AskUDP(ctx, p.UDP(), 3); s.Refused != 3 {
			t.Errorf("%s: UDP requests went %s, want 3 refused", p, &s)
		}
	}
}

// TestTooBig: a packet that does not fit a tunnel is answered with the size that fits, and that
// size passes.
func TestTooBig(t *testing.T) {
	b := bed(t)
	start(t, b, config(t, testbed.Paths...))
	w := openWire(t, b.Client, "eth0", b.Router, "client")
	for _, p := range testbed.Paths {
		if p.Mode != "tun" {
			continue
		}
		t.Run(p.String(), func(t *testing.T) {
			w.t = t
			mtu := 1500 - map[int]int{4: 20, 6: 40}[p.Backend]
			headers := map[int]int{4: 28, 6: 48}[p.Family]
			// A socket of its own, which no earlier ICMP error makes fail.
			send := func(bytes int) {
				c, err := b.Client.Dial(ctxOf(t), "udp", p.UDP())
				must(t, err)
				t.Cleanup(func() { c.Close() })
				dontFragment(t, c, p.Family)
				_, err = c.Write(make([]byte, bytes-headers))
				must(t, err)
			}
			send(1500)
			got := w.await("an ICMP error", func(g gopacket.Packet) bool { return toldMTU(g) != 0 })
			if toldMTU(got) != mtu {
				t.Errorf("the client is told to send %d bytes, want %d", toldMTU(got), mtu)
			}
			rightChecksums(t, got)

			send(mtu)
			w.await("an answer", func(g gopacket.Packet) bool {
				return g.NetworkLayer() != nil && g.NetworkLayer().NetworkFlow().Src().String() == p.Address().String() && toldMTU(g) == 0
			})
		})
	}
}

// toldMTU returns the MTU in "fragmentation needed" and "packet too big", 0 for all other packets.
func toldMTU(p gopacket.Packet) int {
	if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok &&
		l.TypeCode == layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded) {
		return int(l.Seq)
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok && l.TypeCode.Type() == layers.ICMPv6TypePacketTooBig {
		data := l.LayerPayload()
		return int(data[2])<<8 | int(data[3])
	}
	return 0
}

// dontFragment makes a socket send packets whole, with DF, whatever the kernel knows of the path:
// IP_PMTUDISC_PROBE in ip(7) and ipv6(7).
func dontFragment(t *testing.T, c net.Conn, family int) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	must(t, err)
	var set error
	must(t, raw.Control(func(fd uintptr) {
		if family == 4 {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		} else {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
	}))
	must(t, set)
}
