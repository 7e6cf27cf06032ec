package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/cpu"
	"sluice/engine/host"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/xsk"
)

// Collect fills the part of a Box that comes from this machine: not the configuration, and not the
// answers of the daemon. It reads the network namespace of the calling thread, which must be
// locked.
func Collect() (*Box, error) {
	b := &Box{FS: os.DirFS("/"), Links: map[string]*Link{}, Route: kernelRoute, Neighbour: kernelNeighbours()}
	links, err := host.Links()
	if err != nil {
		return nil, err
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ethtool: %w", err)
	}
	defer tool.Close()
	for _, l := range links {
		b.Links[l.Attrs().Name] = linkFrom(l, tool)
	}
	if b.Addresses, err = host.Addresses(links); err != nil {
		return nil, err
	}
	b.Rules = kernelRules()
	if b.Allowed, err = cpu.Allowed(); err != nil {
		return nil, err
	}
	if b.Capabilities, err = Effective(b.text("proc/self/status")); err != nil {
		return nil, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return nil, fmt.Errorf("limit of locked memory: %w", err)
	}
	b.Memlock = limit.Cur
	return b, nil
}

// linkFrom returns what the kernel and the driver report about an interface.
func linkFrom(l netlink.Link, tool *ethtool.Ethtool) *Link {
	a := l.Attrs()
	out := &Link{Name: a.Name, Index: a.Index, MTU: a.MTU, Kind: l.Type(), Parent: a.ParentIndex,
		Up: a.Flags&net.FlagUp != 0 && a.OperState != netlink.OperDown}
	out.Driver, _ = tool.DriverName(a.Name)
	out.Features, _ = tool.Features(a.Name)
	if ring, err := tool.GetRing(a.Name); err == nil {
		out.RxRing, out.RxRingMax = ring.RxPending, ring.RxMaxPending
	}
	if rx, tx, err := xsk.Queues(a.Name); err == nil {
		out.RxQueues, out.TxQueues = rx, tx
	}
	out.ExistingProgram = steer.ExistingProgram(a.Name)
	out.Dropping = out.ExistingProgram == nil && steer.Dropping(a.Name)
	return out
}

// kernelRoute returns what `ip route get` shows.
func kernelRoute(dst netip.Addr) (Route, error) {
	routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
	switch {
	case errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || err == nil && len(routes) == 0:
		return Route{}, errors.New("no route")
	case err != nil:
		return Route{}, fmt.Errorf("asking for the route: %w", err)
	}
	r := routes[0]
	gateway, _ := netip.AddrFromSlice(r.Gw)
	return Route{Ifindex: r.LinkIndex, Gateway: gateway.Unmap(), MTU: r.MTU, Local: r.Type == unix.RTN_LOCAL, Table: r.Table}, nil
}

// neighbourStates are the names of ip-neighbour(8).
var neighbourStates = map[int]string{
	netlink.NUD_INCOMPLETE: "INCOMPLETE", netlink.NUD_REACHABLE: "REACHABLE", netlink.NUD_STALE: "STALE", netlink.NUD_DELAY: "DELAY",
	netlink.NUD_PROBE: "PROBE", netlink.NUD_FAILED: "FAILED", netlink.NUD_NOARP: "NOARP", netlink.NUD_PERMANENT: "PERMANENT",
}

// kernelNeighbours returns Box.Neighbour. The kernel lists all neighbours of a family at once: they
// are read at the first question, because there may be as many backends.
func kernelNeighbours() func(ifindex int, a netip.Addr) string {
	type at struct {
		ifindex int
		address netip.Addr
	}
	states := make(map[int]map[at]string) // by family
	return func(ifindex int, a netip.Addr) string {
		family := netlink.FAMILY_V4
		if a.Is6() {
			family = netlink.FAMILY_V6
		}
		if states[family] == nil {
			states[family] = make(map[at]string)
			all, err := route.Dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(0, family) })
			if err != nil {
				return ""
			}
			for _, n := range all {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					states[family][at{n.LinkIndex, ip.Unmap()}] = neighbourStates[n.State]
				}
			}
		}
		return states[family][at{ifindex, a}]
	}
}
