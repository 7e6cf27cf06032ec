package testbed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"

	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
	"sluice/tools/netlab/decap"
)

// pastTable is the routing table for packets that a backend sends from a service's address.
const pastTable = 100

// answerPast makes the backend send packets that come from a service's address to the router.
func (b *Backend) answerPast(family int) error {
	return b.Host.Do(func() error {
		route := &netlink.Route{Table: pastTable, Dst: ipNet(everywhere[family]), Gw: backNet[family].host(routerHost).AsSlice()}
		if err := netlink.RouteAdd(route); err != nil {
			return fmt.Errorf("%s: the route past the balancer: %w", b.Name, err)
		}
		rule := netlink.NewRule()
		rule.Family = map[int]int{4: netlink.FAMILY_V4, 6: netlink.FAMILY_V6}[family]
		rule.Src, rule.Table = ipNet(vipNet[family].String()), pastTable
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("%s: the rule for answers past the balancer: %w", b.Name, err)
		}
		return nil
	})
}

func ipNet(cidr string) *net.IPNet {
	_, n, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err) // the networks are constants
	}
	return n
}

// endTunnels decapsulates packets to the backend's own addresses.
func (b *Backend) endTunnels(lab *netlab.Lab) error {
	return b.Host.Do(func() (err error) {
		if b.Decap, err = decap.Attach("eth0", b.Addr(4), b.Addr(6)); err == nil {
			lab.CloseLater(b.Decap)
		}
		return err
	})
}

// Start starts the backend's server and waits until it listens.
func (b *Backend) Start(ctx context.Context) error {
	process, err := b.Host.Start(backend.Command(backend.Config{
		Name: b.Name,
		HTTP: listen(WebPort, NATWebPort),
		UDP:  listen(UDPPort, NATUDPPort),
	}))
	if err != nil {
		return err
	}
	b.process = process
	_, err = process.WaitLine(ctx, backend.ReadyLine)
	return err
}

// Kill kills the backend's server, not the host, with SIGKILL.
func (b *Backend) Kill() error {
	if b.process == nil {
		return errors.New(b.Name + " does not run")
	}
	return b.process.Kill()
}

// Hang suspends the backend's server. Its host and its connections stay. Resume ends this.
func (b *Backend) Hang() error { return b.process.Signal(syscall.SIGSTOP) }

// Resume ends Hang.
func (b *Backend) Resume() error { return b.process.Signal(syscall.SIGCONT) }
