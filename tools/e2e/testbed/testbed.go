package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"

	"sluice/tools/netlab"
	"sluice/tools/netlab/decap"
)

// Options configures a Bed.
type Options struct {
	Name   string // of the lab
	Sluice string // path of the program
	Queues int    // of each of the balancer's ports; 0: 1
}

// Backends is the number of backends of a Bed.
const Backends = 3

// Front and Back are the names of the balancer's ports.
const (
	Front = "eth0"
	Back  = "eth1"
)

// Bed is the testbed. Its methods may be called by any goroutine until Close.
type Bed struct {
	Lab                      *netlab.Lab
	Client, Router, Balancer *netlab.Host
	Backends                 [Backends]*Backend

	sluice  string
	dir     string // for configuration files and sockets
	mu      sync.Mutex
	daemons int
}

// Backend is one real server.
type Backend struct {
	Name  string // b1, b2, b3
	Host  *netlab.Host
	Decap *decap.Decap

	number  byte
	process *netlab.Process
}

// Addr returns the backend's own address in a family.
func (b *Backend) Addr(family int) netip.Addr { return backNet[family].host(b.number) }

// New builds the testbed and starts the backends; the balancer is idle. It first removes what
// killed runs left behind. If ctx ends before, nothing is left to close.
func New(ctx context.Context, o Options) (*Bed, error) {
	lab, err := netlab.New(o.Name)
	if err != nil {
		return nil, err
	}
	b := &Bed{Lab: lab, sluice: o.Sluice}
	if err := b.build(ctx, o); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Close ends every process and removes everything.
func (b *Bed) Close() error {
	err := b.Lab.Close()
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

func (b *Bed) build(ctx context.Context, o Options) (err error) {
	if b.dir, err = TempDir(o.Name); err != nil {
		return err
	}
	for _, h := range []struct {
		name string
		host **netlab.Host
	}{{"client", &b.Client}, {"router", &b.Router}, {"balancer", &b.Balancer}} {
		if *h.host, err = b.Lab.Host(h.name); err != nil {
			return err
		}
	}
	for i := range b.Backends {
		be := &Backend{Name: fmt.Sprint("b", i+1), number: backendHost + 1 + byte(i)}
		if be.Host, err = b.Lab.Host(be.Name); err != nil {
			return err
		}
		b.Backends[i] = be
	}
	for _, step := range []func(Options) error{b.wire, b.address, func(Options) error { return b.Route() }, b.past} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(o); err != nil {
			return err
		}
	}
	for _, be := range b.Backends {
		if err := be.endTunnels(b.Lab); err != nil {
			return err
		}
		if err := be.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wire makes the cables and the switch.
func (b *Bed) wire(o Options) error {
	queues := netlab.LinkOptions{Queues: o.Queues}
	errs := []error{
		b.Lab.Link(b.Client, "eth0", b.Router, "client", netlab.LinkOptions{}),
		b.Lab.Link(b.Router, "front", b.Balancer, Front, queues),
		b.Lab.Link(b.Router, "back", b.Balancer, Back, queues),
	}
	ports := []string{"back"}
	for _, be := range b.Backends {
		errs = append(errs, b.Lab.Link(b.Router, be.Name, be.Host, "eth0", netlab.LinkOptions{}))
		ports = append(ports, be.Name)
	}
	return errors.Join(append(errs, b.Router.Bridge("switch", ports...))...)
}

// address adds the addresses of every host.
func (b *Bed) address(Options) error {
	var errs []error
	for _, f := range families {
		errs = append(errs,
			b.Client.Addr("eth0", clientNet[f].cidr(clientHost)),
			b.Router.Addr("client", clientNet[f].cidr(routerHost)),
			b.Router.Addr("front", frontNet[f].cidr(routerHost)),
			b.Router.Addr("switch", backNet[f].cidr(routerHost)),
			b.Balancer.Addr(Front, frontNet[f].cidr(balancerHost)),
			b.Balancer.Addr(Back, backNet[f].cidr(balancerHost)))
		for _, be := range b.Backends {
			errs = append(errs, be.Host.Addr("eth0", backNet[f].cidr(be.number)))
		}
	}
	for _, p := range AllPaths {
		errs = append(errs, b.Balancer.AddLo(p.Address().String()))
		for _, be := range b.Backends {
			if p.Mode == "tun" || p.Mode == "dr" {
				errs = append(errs, be.Host.AddLo(p.Address().String()))
			}
		}
	}
	return errors.Join(errs...)
}

// AddSources gives the balancer's second port the addresses of SecondSource.
func (b *Bed) AddSources() error {
	var errs []error
	for _, f := range families {
		errs = append(errs, b.Balancer.Addr(Back, backNet[f].cidr(sourceHost)))
	}
	return errors.Join(errs...)
}

// Route adds the routes of client, router and balancer, again after the kernel has removed them
// because a link was down.
func (b *Bed) Route() error {
	var errs []error
	for _, f := range families {
		errs = append(errs,
			b.Client.Route(everywhere[f], clientNet[f].host(routerHost).String()),
			b.Router.Route(vipNet[f].String(), frontNet[f].host(balancerHost).String()),
			b.Balancer.Route(everywhere[f], frontNet[f].host(routerHost).String()))
	}
	return errors.Join(errs...)
}

// Second adds a second balancer between router and switch, with ports of the same names, and
// returns a Bed around it, which shares everything else. Both belong to the first Bed, which closes
// them. Packets reach it after Spread.
func (b *Bed) Second() (*Bed, error) {
	second := &Bed{Lab: b.Lab, Client: b.Client, Router: b.Router, Backends: b.Backends, sluice: b.sluice, dir: b.dir, daemons: secondDaemons}
	var err error
	if second.Balancer, err = b.Lab.Host("balancer2"); err != nil {
		return nil, err
	}
	err = errors.Join(
		b.Lab.Link(b.Router, "front2", second.Balancer, Front, netlab.LinkOptions{}),
		b.Lab.Link(b.Router, "back2", second.Balancer, Back, netlab.LinkOptions{}),
		b.Plug("back2"))
	for _, f := range families {
		err = errors.Join(err,
			b.Router.Addr("front2", secondNet[f].cidr(routerHost)),
			second.Balancer.Addr(Front, secondNet[f].cidr(balancerHost)),
			second.Balancer.Addr(Back, backNet[f].cidr(secondHost)))
		if err == nil {
			err = second.Balancer.Route(everywhere[f], secondNet[f].host(routerHost).String())
		}
	}
	return second, err
}

// secondDaemons is where the numbers of the second balancer's daemons begin.
const secondDaemons = 1000

// Spread makes the router send IPv4 packets for services to the balancers that are used: the first,
// the second, or both, each connection to one of them (equal-cost multipath, by addresses and
// ports).
func (b *Bed) Spread(first, second bool) error {
	if err := b.Router.Sysctl("net.ipv4.fib_multipath_hash_policy", "1"); err != nil {
		return err
	}
	return b.Router.Do(func() error {
		route := &netlink.Route{Dst: ipNet(vipNet[4].String())}
		for _, way := range []struct {
			used bool
			net  subnet
		}{{first, frontNet[4]}, {second, secondNet[4]}} {
			if way.used {
				route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{Gw: way.net.host(balancerHost).AsSlice()})
			}
		}
		return netlink.RouteReplace(route)
	})
}

// Plug connects the other end of a host's cable to the switch, the end being named as the host. New
// has done it for all.
func (b *Bed) Plug(name string) error {
	return b.Router.Do(func() error {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(port, bridge)
	})
}

// Unplug undoes Plug: the host is silent, while its own link stays up.
func (b *Bed) Unplug(name string) error {
	return b.Router.Do(func() error {
		port, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetNoMaster(port)
	})
}

// Replug connects a new cable between the balancer's second port and the switch, and adds the
// port's addresses.
func (b *Bed) Replug() error {
	err := b.Plug("back")
	for _, f := range families {
		err = errors.Join(err, b.Balancer.Addr(Back, backNet[f].cidr(balancerHost)))
	}
	return err
}

// OneArm makes the second port the only one that traffic uses: the router sends to the services'
// addresses through the switch, and the balancer to the client likewise.
func (b *Bed) OneArm() error {
	var errs []error
	for _, f := range families {
		errs = append(errs,
			b.Router.Route(vipNet[f].String(), backNet[f].host(balancerHost).String()),
			b.Balancer.Route(everywhere[f], backNet[f].host(routerHost).String()))
	}
	return errors.Join(errs...)
}

// past makes the router forward, and the backends answer on the ways of the package comment.
func (b *Bed) past(Options) error {
	errs := []error{
		b.Router.Sysctl("net.ipv4.ip_forward", "1"),
		b.Router.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		// Timestamps without a random offset per connection: then a SYN from a port that the
		// backend has in TIME_WAIT, through another service, is always newer. Otherwise the backend
		// may answer with an ACK, the client sends its SYN again, and the balancer takes another
		// turn.
		b.Client.Sysctl("net.ipv4.tcp_timestamps", "2"),
	}
	for _, f := range families {
		for _, be := range b.Backends {
			errs = append(errs,
				be.Host.Route(everywhere[f], backNet[f].host(balancerHost).String()),
				be.answerPast(f))
		}
	}
	return errors.Join(errs...)
}
