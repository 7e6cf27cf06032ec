package conf

import "sluice/pipeline/service"

// ChecksPath reports whether the backend's check takes the path of clients' packets.
func (s *Service) ChecksPath(b *Backend) bool {
	return (b.Mode == service.TUN || b.Mode == service.DR) && s.Health.Via == ViaPath &&
		s.Health.Type != HealthNone && s.Health.Type != HealthPing
}

// EachPathCheck calls f for every backend with a check that takes the path of clients' packets.
func (c *Config) EachPathCheck(f func(s *Service, b *Backend)) {
	for i := range c.Services {
		for j := range c.Services[i].Backends {
			if s, b := &c.Services[i], &c.Services[i].Backends[j]; s.ChecksPath(b) {
				f(s, b)
			}
		}
	}
}

// CheckPort returns the port that the backend is checked at.
func (s *Service) CheckPort(b *Backend) uint16 {
	if s.Health.Port != 0 {
		return uint16(s.Health.Port)
	}
	return b.Key.Port
}

// CheckProtocol returns the protocol of the service's checks.
func (s *Service) CheckProtocol() service.Protocol {
	if s.Health.Type == HealthUDP || s.Health.Type == HealthDNS {
		return service.UDP
	}
	return service.TCP
}
