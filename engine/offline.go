package engine

import (
	"log/slog"
	"net/netip"

	"sluice/conf"
	"sluice/engine/inspect"
	"sluice/engine/platform"
	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// OfflineOptions say what is invented around a configuration.
type OfflineOptions struct {
	MTU        int          // of all ports; 0: 1500
	Neighbours []netip.Addr // backends that answer ARP and ND; nil: all
}

// NewOffline returns the balancer that cfg describes. It needs no rights and touches nothing of
// this machine.
func NewOffline(cfg *conf.Config, o OfflineOptions) (*inspect.Offline, error) {
	e, err := newOffline(cfg, o)
	if err != nil {
		return nil, err
	}
	return inspect.NewOffline(inspect.Snapshot{
		Names: e.names(), Config: e.cfg, Tables: e.tables.Load(), Steering: e.steering(), Ports: e.surroundings.Ports,
		Health: e.health.policy,
	}), nil
}

// newOffline returns an engine without workers that has published the tables of cfg.
func newOffline(cfg *conf.Config, o OfflineOptions) (*Engine, error) {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	e := newEngine(Options{Logger: slog.New(slog.DiscardHandler), Platform: invented{}})
	e.prober.Close() // all backends are up
	defer e.health.grow.Stop()
	e.cfg, e.surroundings = cfg, inspect.Surroundings(cfg, o.MTU, o.Neighbours)
	e.cores = 1
	e.hardware = &platform.Hardware{Ports: make([]platform.HardwarePort, len(cfg.Ports))}
	return e, e.republish()
}

// invented is a Platform of which only the questions are asked that tables follow from.
type invented struct{ platform.Platform }

// Source gives addresses of the documentation's networks.
func (invented) Source(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return netip.MustParseAddr("192.0.2.1")
	}
	return netip.MustParseAddr("2001:db8::1")
}

func (invented) LocalPortRange() service.Ports { return service.Ports{First: 32768, Last: 60999} }

func (invented) Steer(steer.Rules) error { return nil }
