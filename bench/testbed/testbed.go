// Package testbed builds the network in which one balancer is measured: three namespaces in a line,
//
//	client eth0 ── eth0 balancer eth1 ── eth0 server
//
// Each balancer has a testbed of its own, so that all of them can be up at the same time and be
// measured in turn.
//
// # Which CPU does what
//
// A veth has no hardware: the sender of a frame also does the work of the receiver's driver, on its
// own CPU. So the client and everything that it sends up to the balancer's driver (its XDP program,
// and the copy into an AF_XDP frame or an skb) run on CPU Ends. What the balancer does with the
// frame, and what it takes to send it, up to and including the server's driver, runs on CPU
// Balancer: for AF_XDP because the worker is pinned there, for the kernel's own forwarding because
// SpreadTo hands its packets over there, as RSS of a NIC would.
package testbed

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"sluice/tools/netlab"
)

// Names of the interfaces.
const (
	Front = "eth0" // the balancer's towards the client
	Back  = "eth1" // the balancer's towards the server
	Eth   = "eth0" // of the client and of the server
)

// Addresses.
var (
	VIP      = netip.MustParseAddr("198.51.100.10")
	Client   = netip.MustParseAddr("10.1.0.2")
	Balancer = netip.MustParseAddr("10.1.0.1") // towards the client
	Inside   = netip.MustParseAddr("10.2.0.1") // the balancer towards the server
	Pool     = netip.MustParseAddr("10.2.0.9") // SNAT address of fullnat
	Sources  = netip.MustParsePrefix("198.18.0.0/15")
)

// FirstPort is the VIP's first port with a service.
const FirstPort = 80

// MaxBackends is the largest number of addresses of the server.
const MaxBackends = 200 * 200

// Backend returns address i of the server, from 0.
func Backend(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 2, byte(1 + i/200), byte(1 + i%200)})
}

// Options configures a Bed.
type Options struct {
	Name     string // of the lab
	Queues   int    // of each of the balancer's ports; 0: 1
	Backends int    // addresses of the server; 0: 3
	Direct   bool   // no balancer: one wire from the client to the server
	Offloads bool   // no checksums and no segmentation: see netlab
}

// Bed is one testbed. Its methods may be called by any goroutine until Close.
type Bed struct {
	Lab                      *netlab.Lab
	Client, Balancer, Server *netlab.Host
	Options
}

// New builds a testbed. It first removes what killed runs left behind.
func New(o Options) (*Bed, error) {
	if o.Backends == 0 {
		o.Backends = 3
	}
	lab, err := netlab.New(o.Name)
	if err != nil {
		return nil, err
	}
	b := &Bed{Lab: lab, Options: o}
	if err := b.build(); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return b, nil
}

// Close ends all processes in the testbed and removes it.
func (b *Bed) Close() error { return b.Lab.Close() }

func (b *Bed) build() (err error) {
	for name, host := range map[string]**netlab.Host{"client": &b.Client, "balancer": &b.Balancer, "server": &b.Server} {
		if *host, err = b.Lab.Host(name); err != nil {
			return err
		}
	}
	link := netlab.LinkOptions{Queues: b.Queues, KeepOffloads: b.Offloads}
	if b.Direct {
		return b.Lab.Link(b.Client, Eth, b.Server, Eth, link)
	}
	err = errors.Join(
		b.Lab.Link(b.Client, Eth, b.Balancer, Front, link),
		b.Lab.Link(b.Balancer, Back, b.Server, Eth, link),
		b.Client.Addr(Eth, Client.String()+"/24"),
		b.Balancer.Addr(Front, Balancer.String()+"/24"),
		b.Balancer.Addr(Back, Inside.String()+"/16", Pool.String()+"/16"),
	)
	for i := range b.Backends {
		err = errors.Join(err, b.Server.Addr(Eth, Backend(i).String()+"/16"))
	}
	return errors.Join(err, b.route())
}

// route makes both directions go through the balancer and adds permanent neighbour entries, so that
// no neighbour is resolved under load.
func (b *Bed) route() error {
	err := errors.Join(
		b.Client.Route("0.0.0.0/0", Balancer.String()),
		b.Server.Route("0.0.0.0/0", Inside.String()),
		b.Balancer.Route(Sources.String(), Client.String()),
		b.Balancer.Route("0.0.0.0/0", Client.String()),
	)
	for _, n := range []struct {
		asks   *netlab.Host
		by     string
		addr   netip.Addr
		has    *netlab.Host
		theirs string
	}{
		{b.Client, Eth, Balancer, b.Balancer, Front},
		{b.Balancer, Front, Client, b.Client, Eth},
		{b.Server, Eth, Inside, b.Balancer, Back},
		{b.Server, Eth, Pool, b.Balancer, Back},
	} {
		err = errors.Join(err, neighbour(n.asks, n.by, n.addr, n.has, n.theirs))
	}
	for i := range b.Backends {
		err = errors.Join(err, neighbour(b.Balancer, Back, Backend(i), b.Server, Eth))
	}
	return err
}

func neighbour(asks *netlab.Host, by string, addr netip.Addr, has *netlab.Host, theirs string) error {
	mac, err := has.MAC(theirs)
	if err != nil {
		return err
	}
	return asks.Neigh(by, addr.String(), mac)
}

// SpreadTo makes the kernel process what an interface receives on one CPU (receive packet steering,
// Documentation/networking/scaling.rst).
func SpreadTo(h *netlab.Host, ifname string, cpu int) error {
	// Only processes of the host see its /sys.
	script := fmt.Sprintf("for q in /sys/class/net/%s/queues/rx-*; do echo %x > $q/rps_cpus || exit 1; done", ifname, 1<<cpu)
	p, err := h.Start(exec.Command("/bin/sh", "-c", script))
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("handing packets of %s to CPU %d: %w: %s", ifname, cpu, err, p.Output())
	}
	return nil
}

// Next returns the first interface that the client's frames reach.
func (b *Bed) Next() (*netlab.Host, string) {
	if b.Direct {
		return b.Server, Eth
	}
	return b.Balancer, Front
}

// CPUs has the CPUs of the two halves. With one CPU both are the same, and the figures mean little.
type CPUs struct {
	Ends     int // client and server
	Balancer int
}
