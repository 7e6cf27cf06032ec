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
func alarmsOf(s *conf.Service, v Verdict, freeze Freeze) (alarms []Alarm) {
	switch {
	case v.NoneUp && s.Sorry != nil:
		alarms = append(alarms, Alarm{Kind: AlarmNoBackend, Text: fmt.Sprintf("no backend is up: new connections go to the sorry server, %s", s.Sorry.Key)})
	case v.NoneUp && len(v.Protected) == 0:
		alarms = append(alarms, Alarm{Kind: AlarmNoBackend, Text: "no backend is up: new connections are refused"})
	case v.Alarm != "":
		alarms = append(alarms, Alarm{Kind: AlarmProtected, Text: v.Alarm})
	}
	if freeze.Services[s.Key] {
		alarms = append(alarms, Alarm{Kind: AlarmFrozen, Text: fmt.Sprintf("its health is frozen: checks change nothing until `sluice health thaw %s`", s.Name)})
	}
	return alarms
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
