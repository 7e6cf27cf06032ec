package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/pipeline/service"
)

// Configured returns running services as a configuration, with their current weights. It has only
// what the API reports: no health checks, timeouts or sources.
func Configured(running []api.Service) ([]conf.Service, error) {
	services := make([]conf.Service, len(running))
	for i, s := range running {
		var err error
		if services[i], err = configured(s); err != nil {
			return nil, fmt.Errorf("the daemon's service %q: %w", s.Name, err)
		}
	}
	return services, nil
}

func configured(s api.Service) (out conf.Service, err error) {
	out = conf.Service{Name: s.Name, Scheduler: s.Scheduler, Persistence: time.Duration(s.PersistenceS * float64(time.Second))}
	errs := make([]error, 3)
	out.Key.Ports = service.Ports(s.Port)
	out.Key.Address, errs[0] = netip.ParseAddr(s.Address)
	out.Key.Protocol, errs[1] = service.ParseProtocol(s.Protocol)
	out.Mode, errs[2] = service.ParseMode(s.Mode)
	for _, b := range s.Backends {
		address, wrongAddress := netip.ParseAddr(b.Address)
		mode, wrongMode := service.ParseMode(b.Mode)
		errs = append(errs, wrongAddress, wrongMode)
		out.Backends = append(out.Backends, conf.Backend{
			Key: service.BackendKey{Address: address, Port: b.Port.First}, Weight: b.Weight, Mode: mode,
		})
	}
	return out, errors.Join(errs...)
}
