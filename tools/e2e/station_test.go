package e2e_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// TestFloodingSwitch: two balancers with the same services are on a switch that knows no MAC
// address and sends every frame to all. The router sends to the first one. Each packet comes to a
// backend once, and the second one takes none.
func TestFloodingSwitch(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-flood"})
	must(t, b.OneArm())
	second, err := b.Lab.Host("second")
	must(t, err)
	must(t, b.Lab.Link(b.Router, "second", second, testbed.Back, netlab.LinkOptions{}))
	must(t, b.Plug("second"))
	must(t, second.Addr(testbed.Back, netip.PrefixFrom(testbed.SecondSource(4), 24).String()))
	must(t, second.Route("0.0.0.0/0", netip.AddrFrom4([4]byte{10, 2, 0, 254}).String()))
	paths := []testbed.Path{nat4, dr4}
	for _, p := range paths {
		must(t, second.AddLo(p.Address().String()))
	}
	must(t, b.Router.Do(func() error {
		for _, port := range []string{"back", "second", "b1", "b2", "b3"} {
			link, err := netlink.LinkByName(port)
			if err == nil {
				err = netlink.LinkSetLearning(link, false)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", port, err)
			}
		}
		return nil
	}))
	flush, err := b.Router.Start(exec.Command("/bin/sh", "-c", "echo 1 > /sys/class/net/switch/bridge/flush"))
	must(t, err)
	must(t, flush.Wait())
	cfg := config(t, paths...)
	cfg.Ports = []testbed.Port{{Name: testbed.Back}}
	first := start(t, b, cfg)
	box := b.Balancer
	b.Balancer = second
	other, err := b.Start(ctxOf(t), cfg)
	b.Balancer = box
	must(t, err)
	t.Cleanup(func() { must(t, other.Stop()) })

	w := openWire(t, b.Backends[0].Host, "eth0", b.Router, "b1")
	must(t, unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20))
	for _, p := range paths {
		wantSpread(t, b.Ask(ctxOf(t), p.URL(), 6), [testbed.Backends]int{2, 2, 2})
		wantSpread(t, b.AskUDP(ctxOf(t), p.UDP(), 12), [testbed.Backends]int{4, 4, 4})
	}
	stats, err := first.Quiet(ctxOf(t))
	must(t, err)
	if stats.Forwarded == 0 {
		t.Errorf("the first balancer: %+v", stats)
	}
	stats, err = other.Quiet(ctxOf(t))
	must(t, err)
	if stats.Rx != 0 {
		t.Errorf("the second balancer received %d frames that the switch flooded: forwarded %d", stats.Rx, stats.Forwarded)
	}
	router, err := b.Router.MAC("switch")
	must(t, err)
	// Datagrams from the client that the switch carried, by destination: from the router to the
	// first balancer, and from a balancer to a backend. A client on a slow machine may ask twice.
	asked, forwarded := make(map[string]int), make(map[string]int)
	count := func(p gopacket.Packet) {
		if _, ok := p.TransportLayer().(*layers.UDP); !ok || p.NetworkLayer().NetworkFlow().Src().String() != nat4.Client().String() {
			return
		}
		to := p.NetworkLayer().NetworkFlow().Dst().String()
		if ether := p.LinkLayer().(*layers.Ethernet); ether.SrcMAC.String() == router.String() {
			asked[to]++
			return
		}
		if to != dr4.Address().String() {
			to = nat4.Address().String()
		}
		forwarded[to]++
	}
	poll(t, "each datagram comes to a backend once", func() error {
		if w.drain(count); len(asked) != len(paths) || !maps.Equal(asked, forwarded) {
			return fmt.Errorf("the router sent %v, and backends were sent %v", asked, forwarded)
		}
		return nil
	})
}

// drain reads what has arrived.
func (w *wire) drain(each func(gopacket.Packet)) {
	w.t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		must(w.t, err)
		if link, ok := from.(*unix.SockaddrLinklayer); !ok || link.Pkttype != unix.PACKET_OUTGOING {
			each(gopacket.NewPacket(append([]byte(nil), buf[:n]...), layers.LayerTypeEthernet, gopacket.Default))
		}
	}
}

// TestStations: frames to a MAC address or VLAN that the port does not have are the kernel's; those
// to a macvlan interface on the port are Sluice's while it is up.
func TestStations(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, nat4))
	w := frontWire(t, b)
	client := nat4.Client()
	sent := uint16(0)
	frame := func(mac net.HardwareAddr, change func([]byte) []byte) []byte {
		sent++
		f := w.udp(netip.AddrPortFrom(client, 20000+sent), netip.MustParseAddrPort(nat4.UDP()), "station")
		copy(f, mac)
		return change(f)
	}
	same := func(f []byte) []byte { return f }
	tagged := func(control uint16) func([]byte) []byte {
		return func(f []byte) []byte {
			return append(append(f[:12:12], 0x81, 0, byte(control>>8), byte(control)), f[12:]...)
		}
	}
	opened := func() (n uint64) {
		t.Helper()
		services, err := d.API.List(ctxOf(t))
		must(t, err)
		for _, s := range services {
			for _, be := range s.Backends {
				n += be.Connections
			}
		}
		return n
	}
	// ours reports whether a frame is Sluice's: then it opens a connection. The one behind it
	// always is, and both take the same way.
	ours := func(f []byte) bool {
		t.Helper()
		before := opened()
		w.send(f)
		w.send(frame(w.peer, same))
		n := uint64(0)
		poll(t, "the frame that is Sluice's", func() error {
			if n = opened() - before; n == 0 {
				return errors.New("no connection was opened")
			}
			return nil
		})
		_, err := d.Quiet(ctxOf(t))
		must(t, err)
		return opened()-before == 2
	}
	virtual := net.HardwareAddr{0, 0, 0x5e, 0, 1, 51}
	group := func(f []byte) []byte { f[6] |= 1; return f }
	for _, c := range []struct {
		what  string
		frame []byte
		want  bool
	}{
		{"the port's", frame(w.peer, same), true},
		{"another MAC address", frame(net.HardwareAddr{2, 0, 0, 0, 0x77, 0x77}, same), false},
		{"broadcast", frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, same), false},
		{"from a group address", frame(w.peer, group), false},
		{"VLAN 7", frame(w.peer, tagged(7)), false},
		{"a priority", frame(w.peer, tagged(0xa000)), true},
		{"a macvlan that does not exist", frame(virtual, same), false},
	} {
		if got := ours(c.frame); got != c.want {
			t.Errorf("%s: Sluice's: %v, want %v", c.what, got, c.want)
		}
	}

	must(t, b.Balancer.Do(func() error {
		parent, err := netlink.LinkByName(testbed.Front)
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = "vrrp.51", parent.Attrs().Index, virtual
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE})
	}))
	t.Cleanup(func() { must(t, b.Balancer.LinkDel("vrrp.51")) })
	must(t, b.Balancer.LinkUp("vrrp.51"))
	becomes := func(want bool) {
		t.Helper()
		poll(t, fmt.Sprintf("frames to the macvlan are Sluice's: %v", want), func() error {
			if ours(frame(virtual, same)) != want {
				return errors.New("not yet")
			}
			return nil
		})
	}
	becomes(true)
	must(t, b.Balancer.LinkDown("vrrp.51"))
	becomes(false)
}

// TestVLANOffload: the card of a port removes no VLAN tags while the daemon runs, and does so again
// when it has stopped.
func TestVLANOffload(t *testing.T) {
	b := bed(t)
	const feature = "rx-vlan-hw-parse"
	set := func(on bool) {
		t.Helper()
		must(t, b.Balancer.Do(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			return tool.Change(testbed.Front, map[string]bool{feature: on})
		}))
	}
	is := func() (on bool) {
		t.Helper()
		must(t, b.Balancer.Do(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			all, err := tool.Features(testbed.Front)
			on = all[feature]
			return err
		}))
		return on
	}
	before := is()
	t.Cleanup(func() { set(before) })
	for _, on := range []bool{true, false} {
		if set(on); is() != on {
			t.Fatalf("the veth does not let %s be %v", feature, on)
		}
		d, err := b.Start(ctxOf(t), config(t, nat4))
		must(t, err)
		if is() {
			t.Errorf("%s is on while the daemon runs", feature)
		}
		if s := b.Ask(ctxOf(t), nat4.URL(), 3); s.Answered() != 3 {
			t.Errorf("requests went %s", &s)
		}
		must(t, d.Stop())
		if is() != on {
			t.Errorf("%s is %v after the daemon, and was %v", feature, !on, on)
		}
	}
}
