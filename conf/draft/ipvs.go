package draft

import (
	"fmt"
	"math"
	"slices"
	"time"

	"sluice/conf"
	"sluice/pipeline/service"
)

// What follows is common to the programs that configure IPVS: its schedulers, their flags, its
// ports and times.

// Scheduler gives the scheduler that does what one of IPVS does, or comes nearest, and why it is
// another one if it is.
func Scheduler(ipvs string) (ours, why string) {
	if slices.Contains(service.Schedulers, ipvs) {
		return ipvs, ""
	}
	switch ipvs {
	case "twos":
		return "p2c", "became p2c, which draws two backends and takes the less loaded one likewise"
	case "lblc", "lblcr":
		return "wlc", "became wlc: Sluice has no locality-based scheduler; for caches take mh"
	case "fo":
		return "wlc", "became wlc, and backends below the highest weight have weight 0 now: Sluice has no failover scheduler"
	case "ovf":
		return "wlc", "became wlc: Sluice has no overflow scheduler, so all backends are used from the start"
	}
	return "wlc", "became wlc: legal are " + fmt.Sprint(service.Schedulers)
}

// SchedulerFlag says why a flag of a scheduler is not carried over, "" if it needs none.
func SchedulerFlag(scheduler, flag string) string {
	switch {
	case flag == "mh-fallback", flag == "sh-fallback", scheduler == "mh" && flag == "flag-1", scheduler == "sh" && flag == "flag-1":
		return "" // Sluice's always fall back
	case flag == "mh-port", flag == "sh-port", flag == "flag-2":
		return "Sluice's " + scheduler + " goes by the client's address alone"
	}
	return "Sluice's schedulers have no flags"
}

// KeepHighest does for scheduler fo what Scheduler's words say: backends below the highest weight
// get weight 0.
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

// FitPort gives a backend the port that it has for Sluice, where 0 is the client's, and says why if
// that changes anything. IPVS looks at a server's port in NAT only, and so may hold any other one
// for DR and tunnels.
func FitPort(b *conf.Backend, front service.Ports) (why string) {
	own := b.Key.Port
	switch {
	case own == 0 || front.Single() && own == front.First:
	case b.Mode == service.NAT || b.Mode == service.FullNAT:
		return ""
	default:
		why = fmt.Sprintf("port %d became the service's, %s: mode %s changes no ports", own, front, b.Mode)
	}
	b.Key.Port = 0
	if front.Single() {
		b.Key.Port = front.First
	}
	return why
}

// Clip makes a duration of seconds, and notes one that is longer than Sluice allows.
func Clip(d *Draft, at Place, what string, seconds int, most time.Duration) time.Duration {
	if seconds > int(most/time.Second) || seconds > math.MaxInt32 {
		d.Note(at, "%s %d: %s is the longest that is legal", what, seconds, most)
		return most
	}
	return time.Duration(seconds) * time.Second
}
