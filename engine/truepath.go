package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/health/truepath"
	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// openDetour opens the detour if the configuration needs one and none is open. If that fails,
// backends are checked directly, and every result states it. The caller holds mu.
func (e *Engine) openDetour(cfg *conf.Config) {
	needed := 0
	cfg.EachPathCheck(func(*conf.Service, *conf.Backend) { needed++ })
	detourer, able := e.platform.(platform.Detourer)
	if needed == 0 || !able || e.detour.Load() != nil {
		return
	}
	d, err := detourer.Detour(tables.ProbePorts(e.platform.LocalPortRange()))
	if e.detourErr = err; err != nil {
		e.log.Error(directText(err), "backends", needed)
		return
	}
	e.detour.Store(d)
	e.running.Add(1)
	go e.followDetour(d)
	e.log.Info("health checks of tun and dr take the path of their mode", "backends", needed, "device", d.Name(), "ports", d.Ports().String())
}

// directText returns the message for operators that checks do not take their path.
func directText(why error) string {
	return fmt.Sprintf("health checks of tun and dr backends ask the backends' own addresses and don't notice a missing service address or decapsulator: %s. "+
		"Fix that and reload, or set via = \"direct\" in [service.health]", why)
}

// A device that was removed is replaced, unless shortLived devices in a row were removed within
// shortLife: another program may remove it on purpose.
const (
	shortLife  = time.Minute
	shortLived = 5
)

// followDetour opens another detour when the device of d was removed.
func (e *Engine) followDetour(d *truepath.Detour) {
	defer e.running.Done()
	born := time.Now()
	<-d.Ended()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.detour.Load() != d {
		return
	}
	e.detour.Store(nil)
	err := d.Close()
	if e.detoursLost++; time.Since(born) > shortLife {
		e.detoursLost = 0
	}
	if e.detoursLost > shortLived {
		e.detourErr = fmt.Errorf("another program removes the device %s again and again", d.Name())
		e.log.Error(directText(e.detourErr))
	} else {
		e.log.Error("the device for health checks is gone: making another", "device", d.Name())
		e.openDetour(e.cfg)
	}
	if err = errors.Join(err, e.adopt(e.cfg)); err != nil {
		e.log.Error("health checks could not go on by another device", "err", err)
	}
}

// closeDetour closes the detour. No probe runs any longer.
func (e *Engine) closeDetour() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if d := e.detour.Swap(nil); d != nil {
		return d.Close()
	}
	return nil
}

// setPath changes a check of the backend's own address into one of the service's address on the
// path of the backend's mode, if the check is to take it. The error is the reason why it cannot.
func (e *Engine) setPath(s *conf.Service, b *conf.Backend, c *health.Check) error {
	d := e.detour.Load()
	if !s.ChecksPath(b) || d == nil && e.detourErr == nil {
		return nil
	}
	err := e.detourErr
	if d != nil {
		c.Through, err = d.Target(s.Key.BackendID(b.Key))
	}
	if err != nil {
		c.By = fmt.Sprintf("its own address, not by %s: %s", b.Mode, err)
		return err
	}
	c.Target = netip.AddrPortFrom(s.Key.Address, c.Target.Port())
	c.By = fmt.Sprintf("%s to %s", b.Mode, b.Key.Address)
	c.Silence = ": does the backend have the service's address?"
	if b.Mode == service.TUN {
		c.Silence = ": does the backend unwrap tunnels and have the service's address?"
	}
	return nil
}

// paths are how the checks that take their path reach backends, and which answers are steered to
// the detour: see steer.Rules.
type paths struct {
	to              map[service.BackendID]*truepath.Path
	probed, probers []service.Key
}

// pathsFor returns the paths of a configuration now. The caller holds mu.
func (e *Engine) pathsFor(cfg *conf.Config) paths {
	d := e.detour.Load()
	if d == nil {
		return paths{}
	}
	vips := make(map[netip.Addr]bool)
	for i := range cfg.Services {
		vips[cfg.Services[i].Key.Address] = true
	}
	out := paths{to: make(map[service.BackendID]*truepath.Path)}
	cfg.EachPathCheck(func(s *conf.Service, b *conf.Backend) {
		path := e.pathTo(s, b, vips)
		out.to[s.Key.BackendID(b.Key)] = path
		protocol := s.CheckProtocol()
		out.probed = append(out.probed, service.Key{
			Address: s.Key.Address, Ports: service.Ports{First: path.Port, Last: path.Port}, Protocol: protocol,
		})
		if path.Own != (packet.Addr{}) {
			out.probers = append(out.probers, service.Key{Address: path.Own.Netip(), Ports: d.Ports(), Protocol: protocol})
		}
	})
	out.probed, out.probers = distinct(out.probed), distinct(out.probers)
	return out
}

// setPaths makes checks take the paths from now on. The caller holds mu.
func (e *Engine) setPaths(p paths) {
	if d := e.detour.Load(); d != nil {
		d.Set(p.to)
	}
}

// distinct returns each key once, in an order that depends only on the keys.
func distinct(keys []service.Key) []service.Key {
	slices.SortFunc(keys, func(a, b service.Key) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Ports.First, b.Ports.First), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(keys)
}

// pathTo returns how the backend is reached now.
func (e *Engine) pathTo(s *conf.Service, b *conf.Backend, vips map[netip.Addr]bool) *truepath.Path {
	p := &truepath.Path{
		VIP: packet.AddrFrom(s.Key.Address), Port: s.CheckPort(b),
		Mode: b.Mode, Backend: packet.AddrFrom(b.Key.Address),
	}
	link, reason := e.surroundings.Table.Lookup(p.Backend)
	if reason != counter.None {
		p.Why = reason.Text()
		return p
	}
	p.Link = *link
	port := &e.surroundings.Ports[link.Port]
	p.Ifindex = port.Ifindex
	own := truepath.OwnAddress(port.Prefixes, e.surroundings.Locals, s.Key.Address.Is4(), b.Key.Address, vips)
	if !own.IsValid() {
		p.Why = fmt.Sprintf("port %s, which leads to the backend, has no address that it could answer a check of %s to", port.Name, s.Key.Address)
		return p
	}
	p.Own = packet.AddrFrom(own)
	if b.Mode == service.TUN {
		outer := e.sourceTo(b.Key.Address)
		p.Outer = packet.AddrFrom(outer)
		if !outer.IsValid() {
			p.Why = "this host has no address to send the tunnel from"
		}
	}
	return p
}

// probe runs a check once, on its path if it has one.
func (e *Engine) probe(ctx context.Context, c health.Check) error {
	d := e.detour.Load()
	if d == nil || !c.Through.IsValid() {
		return health.Probe(ctx, c)
	}
	if err := d.Ready(c.Through); err != nil {
		return fmt.Errorf("%s: %w", c.Where(), err)
	}
	err := health.Probe(ctx, c)
	if why := d.Trouble(c.Through); err != nil && why != "" {
		return fmt.Errorf("%s: %s", c.Where(), why)
	}
	return err
}
