package draft

import (
	"fmt"
	"math"
	"slices"
	"time"

	"sluice/conf"
	"sluice/pipeline/service"
)

// What follows is common to programs that configure IPVS: schedulers, their flags, ports and times.

// Scheduler returns the scheduler that equals one of IPVS or is most similar, and why it differs,
// if it does.
func Scheduler(ipvs string) (ours, why string) {
	if slices.Contains(service.Schedulers, ipvs) {
		return ipvs, ""
	}
	switch ipvs {
	case "twos":
		return "p2c", "became p2c, which also draws two backends and uses the less loaded one"
	case "conhash": // of DPVS
		return "mh", "became mh, which also keeps clients at their backends when others come or go"
	case "lblc", "lblcr":
		return "wlc", "became wlc: Sluice has no locality-based scheduler; for caches use mh"
	case "fo":
		return "wlc", "became wlc, and backends below the highest weight have weight 0 now: Sluice has no failover scheduler"
	case "ovf":
		return "wlc", "became wlc: Sluice has no overflow scheduler, so all backends are used from the start"
	}
	return "wlc", "became wlc; allowed: " + fmt.Sprint(service.Schedulers)
}

// SchedulerFlag sets what a flag of the service's scheduler means, or returns why it is not carried
// over.
func SchedulerFlag(s *conf.Service, flag string) string {
	scheduler := s.Scheduler
	switch {
	case scheduler == "mh" && (flag == "mh-port" || flag == "flag-2"):
		s.Hash = conf.HashAddressPort
		return ""
	case flag == "mh-fallback", flag == "sh-fallback", scheduler == "mh" && flag == "flag-1", scheduler == "sh" && flag == "flag-1":
		return "" // Sluice's schedulers always fall back
	case flag == "mh-port", flag == "sh-port", flag == "flag-2":
		return "Sluice's " + scheduler + " uses the client's address only"
	}
	return "Sluice's schedulers have no flags"
}

// KeepHighest does what Scheduler's text about fo announces: backends below the highest weight get
// weight 0.
func KeepHighest(s *Service) {
	highest := 0
	for _, b := range s.Backends {
		highest = max(highest, b.Weight)
	}
	for i := range s.Backends {
		if s.Backends[i].Weight < highest {
			s.Backends[i].Weight = 0
		}
	}
}

// FitPort sets a backend's port for Sluice, where 0 is the client's, and returns why, if that is a
// change. IPVS uses a server's port in NAT only, so DR and tunnels may have any other.
func FitPort(b *conf.Backend, front service.Ports) (why string) {
	own := b.Key.Port
	switch {
	case own == 0 || front.Single() && own == front.First:
	case b.Mode == service.NAT || b.Mode == service.FullNAT:
		return ""
	default:
		why = fmt.Sprintf("port %d became the service's, %s: mode %s does not change ports", own, front, b.Mode)
	}
	b.Key.Port = 0
	if front.Single() {
		b.Key.Port = front.First
	}
	return why
}

// Clip converts seconds to a duration, and notes one that is longer than Sluice allows.
func Clip(d *Draft, at Place, what string, seconds int, most time.Duration) time.Duration {
	if seconds > int(most/time.Second) || seconds > math.MaxInt32 {
		d.Note(at, "%s %d: %s is the longest that is allowed", what, seconds, most)
		return most
	}
	return time.Duration(seconds) * time.Second
}
