package e2e_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/pipeline/packet/packettest"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
)

// TestFragments: datagrams of real clients and backends that take several packets arrive in both
// directions, in all modes, with two workers; and fragments of one that arrive in any order, as the
// kernel does not have the services' addresses.
func TestFragments(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-fragments", Queues: 2})
	withoutVIPs(t, b)
	cfg := testbed.NewConfig(0, testbed.AllPaths...)
	cfg.Engine.Cores = cores(t, 2)
	start(t, b, cfg)
	w := frontWire(t, b)
	routeMTU(t, b.Client, 1400) // what a tunnel adds fits then
	for _, p := range testbed.AllPaths {
		t.Run(p.String(), func(t *testing.T) {
			ctx := ctxOf(t)
			c, err := b.Client.Dial(ctx, "udp", p.UDP())
			must(t, err)
			defer c.Close()
			for _, size := range []int{1000, 4096, 60_000} {
				// It sends again after a second without an answer: the lab may lose packets.
				if _, err := backend.AskUDP(ctx, c, bytes.Repeat([]byte{byte(size)}, size)); err != nil {
					t.Fatalf("a datagram of %d bytes: %v", size, err)
				}
			}
			w.t = t
			reordered(t, b, w, p)
		})
	}
}

// reordered sends a datagram of the client in fragments, in random order, until the answer comes.
func reordered(t *testing.T, b *testbed.Bed, w *wire, p testbed.Path) {
	t.Helper()
	c, err := b.Client.ListenPacket("udp", netip.AddrPortFrom(p.Client(), 0).String())
	must(t, err)
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	frame := w.udp(from, netip.MustParseAddrPort(p.UDP()), string(bytes.Repeat([]byte("fragment"), 2000)))
	buf := make([]byte, 1<<16)
	id := uint32(1)
	poll(t, "the answer to a datagram in fragments", func() error {
		frames := packettest.Split(frame, id, 1400)
		rand.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		for _, f := range frames {
			w.send(f)
		}
		id++
		must(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		n, _, err := c.ReadFrom(buf)
		if err == nil && !bytes.HasSuffix(buf[:n], bytes.Repeat([]byte("fragment"), 2000)) {
			return fmt.Errorf("got %d other bytes", n)
		}
		return err
	})
}

// withoutVIPs removes the addresses of the services from the balancer's kernel.
func withoutVIPs(t *testing.T, b *testbed.Bed) {
	t.Helper()
	must(t, b.Balancer.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, p := range testbed.AllPaths {
			a := p.Address()
			all := net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
			if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: &all}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// routeMTU sets the MTU of a host's default routes.
func routeMTU(t *testing.T, h *netlab.Host, mtu int) {
	t.Helper()
	must(t, h.Do(func() error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := netlink.RouteList(nil, family)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if r.Gw == nil {
					continue
				}
				if r.MTU = mtu; err == nil {
					err = netlink.RouteReplace(&r)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
}
