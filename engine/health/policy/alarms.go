package policy

import (
	"fmt"
	"time"

	"sluice/conf"
)

// Kinds of alarm.
const (
	// AlarmProtected: checks fail for so many backends that some are used all the same
	AlarmProtected = "pool_protected"
	// AlarmNoBackend: no backend is up: new connections are refused, or go to the sorry server
	AlarmNoBackend = "no_backend"
	// AlarmUnreachable: no packet can be sent to some backends: no route, or no neighbour
	AlarmUnreachable = "backend_unreachable"
	// AlarmDirect: checks of tun and dr backends cannot take the path of their mode
	AlarmDirect = "checks_direct"
	// AlarmNotRun: checks cannot be run, because this host lacks file descriptors, ports or memory
	AlarmNotRun = "checks_not_run"
	// AlarmDetached: another process has detached the XDP program from a port
	AlarmDetached = "xdp_detached"
	// AlarmToKernel: what backends send of their own accord does not reach the kernel
	AlarmToKernel = "to_kernel_failed"
	AlarmFrozen   = "health_frozen" // an operator has frozen what checks decide
)

// Alarm is a condition that an operator should look at, for as long as it lasts.
type Alarm struct {
	Kind  string
	Text  string // one sentence, with what to do
	Since time.Time
}

// alarmsOf returns the alarms of a service, without their times.
func (out *serviceState) alarmsOf(s *conf.Service, v Verdict, freeze Freeze) (alarms []Alarm) {
	switch {
	case out.sorry && v.NoneUp:
		alarms = append(alarms, Alarm{Kind: AlarmNoBackend, Text: fmt.Sprintf("no backend is up: new connections go to the sorry server, %s", s.Sorry.Key)})
	case v.NoneUp && len(v.Protected) == 0:
		alarms = append(alarms, Alarm{Kind: AlarmNoBackend, Text: "no backend is up: new connections are refused"})
	case len(v.Protected) > 0:
		alarms = append(alarms, Alarm{Kind: AlarmProtected, Text: out.protected(s, &v)})
	}
	if text := out.unreachable(); text != "" {
		alarms = append(alarms, Alarm{Kind: AlarmUnreachable, Text: text})
	}
	if freeze.Services[s.Key] {
		alarms = append(alarms, Alarm{Kind: AlarmFrozen, Text: fmt.Sprintf("its health is frozen: checks change nothing until `sluice health thaw %s`", s.Name)})
	}
	return alarms
}

// protected returns a sentence about the backends that are down and in use, with the numbers that
// every view of the service has.
func (out *serviceState) protected(s *conf.Service, v *Verdict) string {
	if len(s.Backends) == 1 {
		return "the only backend is down and in use: " + v.Advice
	}
	down := 0
	for _, b := range out.backends[:len(s.Backends)] {
		if b.State == Down {
			down++
		}
	}
	return fmt.Sprintf("%d/%d backends are down, %d of them in use, because %s: %s", down, len(s.Backends), len(v.Protected), v.Why, v.Advice)
}

// unreachable returns a sentence about the backends that no packet can be sent to; "": none.
func (out *serviceState) unreachable() string {
	n, example := 0, (*Backend)(nil)
	for i := range out.backends {
		if b := &out.backends[i]; b.Unreachable != "" {
			n, example = n+1, b
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("backend %s is down: %s", example.ID.Backend, example.Unreachable)
	}
	return fmt.Sprintf("%d backends are down because no packet can be sent to them, for example %s: %s", n, example.ID.Backend, example.Unreachable)
}

// date sets the times of alarms: those that were raised before keep theirs.
func date(alarms, before []Alarm, now time.Time) {
	for i := range alarms {
		alarms[i].Since = now
		if a := find(before, alarms[i].Kind); a != nil {
			alarms[i].Since = a.Since
		}
	}
}

// find returns the alarm of a kind, or nil.
func find(alarms []Alarm, kind string) *Alarm {
	for i := range alarms {
		if alarms[i].Kind == kind {
			return &alarms[i]
		}
	}
	return nil
}
