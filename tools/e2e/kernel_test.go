package e2e_test

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/tools/e2e/testbed"
)

// TestKernelKeepsTheRest: packets to a service's address but to no service (ping, another port),
// and the balancer's own packets to a backend, stay with the kernel. Sluice never sees them.
func TestKernelKeepsTheRest(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, testbed.Paths...))
	before, err := d.Quiet(ctxOf(t))
	must(t, err)
	w := frontWire(t, b)
	for _, p := range testbed.Paths {
		t.Run(p.String(), func(t *testing.T) {
			w.t = t
			ping(w, p)
			other := netip.AddrPortFrom(p.Address(), 22).String()
			listener, err := b.Balancer.Listen("tcp", other)
			must(t, err)
			defer listener.Close()
			go func() {
				if c, err := listener.Accept(); err == nil {
					io.Copy(c, c)
					c.Close()
				}
			}()
			ctx := ctxOf(t)
			c, err := b.Client.Dial(ctx, "tcp", other)
			must(t, err)
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(waitLimit)))
			_, err = c.Write([]byte("hello"))
			must(t, err)
			echo := make([]byte, 5)
			if _, err := io.ReadFull(c, echo); err != nil || string(echo) != "hello" {
				t.Errorf("the host behind port 22 answered %q, %v", echo, err)
			}
		})
	}
	for _, family := range []int{4, 6} {
		// The port that NAT sends to: replies to clients are ours, those to the balancer are not.
		server := netip.AddrPortFrom(b.Backends[0].Addr(family), testbed.NATWebPort).String()
		ctx, cancel := context.WithTimeout(ctxOf(t), 10*time.Second)
		c, err := b.Balancer.Dial(ctx, "tcp", server)
		cancel()
		if err != nil {
			t.Errorf("the balancer's own connection to a backend: %v", err)
			continue
		}
		c.Close()
	}
	after, err := d.Quiet(ctxOf(t))
	must(t, err)
	if after.Rx != before.Rx {
		t.Errorf("Sluice received %d packets that were none of its business", after.Rx-before.Rx)
	}
}

// ping sends an echo request to a path's address and waits for its answer.
func ping(w *wire, p testbed.Path) {
	w.t.Helper()
	pingAddr(w, p, p.Address())
}

// pingAddr sends an echo request to an address of a path's family and waits for its answer.
func pingAddr(w *wire, p testbed.Path, address netip.Addr) {
	w.t.Helper()
	network := ip(p.Client(), address, layers.IPProtocolICMPv4)
	body := gopacket.Payload([]byte{0x12, 0x34, 0, 1, 'p', 'i', 'n', 'g'})
	var message gopacket.SerializableLayer = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 0x1234, Seq: 1}
	wanted := func(g gopacket.Packet) bool {
		l, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		return ok && l.TypeCode.Type() == layers.ICMPv4TypeEchoReply && l.Id == 0x1234
	}
	if p.Family == 4 {
		body = body[4:] // gopacket makes identifier and sequence number part of the header
	} else {
		network = ip(p.Client(), address, layers.IPProtocolICMPv6)
		v6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
		v6.SetNetworkLayerForChecksum(network)
		message = v6
		wanted = func(g gopacket.Packet) bool {
			l, ok := g.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
			return ok && l.TypeCode.Type() == layers.ICMPv6TypeEchoReply
		}
	}
	w.send(serialize(w.t, w.ethernet(address), network, message, body))
	w.await("an echo reply from "+address.String(), func(g gopacket.Packet) bool {
		return wanted(g) && g.NetworkLayer().NetworkFlow().Src().String() == address.String()
	})
}
