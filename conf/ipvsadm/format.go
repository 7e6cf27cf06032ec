package ipvsadm

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice/conf"
	"sluice/pipeline/service"
)

// maxRange limits how many ports of a range become services of IPVS, which has no ranges.
const maxRange = 256

// Format returns services as `ipvsadm -S -n` prints them, for `ipvsadm -R`, and notes on what IPVS
// does not support. It uses key, mode, scheduler, persistence and backends of each service.
func Format(services []conf.Service) (text []byte, notes []string) {
	f := &formatter{}
	for i := range services {
		f.service(&services[i])
	}
	return []byte(f.text.String()), f.notes
}

type formatter struct {
	text  strings.Builder
	notes []string
}

func (f *formatter) note(s *conf.Service, format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf("service %q: ", s.Name)+fmt.Sprintf(format, args...))
}

// methods are the options of the modes that IPVS has.
var methods = map[service.Mode]string{service.NAT: "-m", service.TUN: "-i", service.DR: "-g"}

func (f *formatter) service(s *conf.Service) {
	ports := s.Key.Ports
	count := int(ports.Last) - int(ports.First) + 1
	switch {
	case ports == service.AnyPort:
		count = 1 // port 0
	case count > maxRange:
		f.note(s, "is left out: IPVS has no port ranges, and %s would be %d services; a firewall mark can replace them", ports, count)
		return
	case count > 1:
		f.note(s, "became %d services: IPVS has no port ranges", count)
	}
	options := f.options(s)
	for _, b := range s.Backends {
		if methods[b.Mode] == "" {
			f.note(s, "backend %s is left out: IPVS has no mode %s", b.Key, b.Mode)
		}
	}
	for n := range count {
		port := ports.First + uint16(n)
		name := fmt.Sprintf("-%c %s", s.Key.Protocol.String()[0], endpoint(s.Key.Address, port))
		fmt.Fprintf(&f.text, "-A %s %s\n", name, options)
		for _, b := range s.Backends {
			if method := methods[b.Mode]; method != "" {
				own := b.Key.Port
				if own == 0 {
					own = port
				}
				fmt.Fprintf(&f.text, "-a %s -r %s %s -w %d%s\n", name, endpoint(b.Key.Address, own), method, b.Weight, thresholds(&b))
			}
		}
	}
}

// thresholds returns the options for the limits of a backend's connections.
func thresholds(b *conf.Backend) (text string) {
	if b.MaxConnections > 0 {
		text += fmt.Sprintf(" -x %d", b.MaxConnections)
	}
	if b.MinConnections > 0 {
		text += fmt.Sprintf(" -y %d", b.MinConnections)
	}
	return text
}

// options returns the options after the name of a service.
func (f *formatter) options(s *conf.Service) string {
	scheduler, flags := s.Scheduler, ""
	switch scheduler {
	case "p2c":
		scheduler = "twos"
		f.note(s, "scheduler p2c became twos, which Linux has from 5.11 on")
	case "random":
		scheduler = "wrr"
		f.note(s, "scheduler random became wrr: IPVS has no random scheduler")
	case "mh", "sh":
		flags = " -b " + scheduler + "-fallback" // Sluice's schedulers always fall back
		if s.Hash == conf.HashAddressPort {
			flags += ",mh-port"
		}
	}
	persistence := ""
	switch {
	case s.Persistence > 0:
		persistence = fmt.Sprintf(" -p %.0f", s.Persistence.Seconds())
	case s.Key.Ports == service.AnyPort:
		persistence = " -p 300"
		f.note(s, "got a persistence of 300 seconds: IPVS allows services of any port only with persistence")
	}
	return "-s " + scheduler + persistence + flags
}

// endpoint formats an address and a port as ipvsadm does.
func endpoint(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
