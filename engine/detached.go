package engine

import (
	"fmt"
	"strings"
	"time"
)

// steeringLoss is what is known of another process having taken away a port's XDP program.
type steeringLoss struct {
	at  time.Time // zero: not, or longer ago than lossShown
	how string    // "detached" or "replaced"
	err error     // why it cannot be attached again; nil: it is attached
}

// lossShown is how long the alarm lasts after the program was attached again, so that an operator
// who looks once a minute sees it.
const lossShown = time.Minute

// keepSteering attaches the XDP program again to ports where another process has detached or
// replaced it. Only followPorts calls it.
func (e *Engine) keepSteering() {
	changed := false
	for i := range e.hardware.Ports {
		if e.hardware.Ports[i].Ifindex == 0 {
			continue
		}
		lost, err := e.platform.Restore(i)
		changed = e.noteLoss(i, lost, err) || changed
	}
	if changed {
		e.results.wake()
	}
}

// noteLoss logs and stores what Restore returned. It reports whether the alarm may differ.
func (e *Engine) noteLoss(port int, lost string, err error) (changed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s, name := &e.losses[port], e.hardware.Ports[port].Name
	switch before := *s; {
	case err != nil:
		*s = steeringLoss{time.Now(), lost, err}
		if before.err != nil && before.err.Error() == err.Error() {
			return false
		}
		e.log.Error(takenBy(lost)+", and it cannot be attached again; next attempt in "+portPause.String(),
			"event", "xdp_detached", "port", name, "err", err)
		return true
	case lost != "":
		*s = steeringLoss{time.Now(), lost, nil}
		e.log.Warn(takenBy(lost)+"; it is attached again", "event", "xdp_detached", "port", name)
		return true
	case before.err != nil: // the interface was replaced
		*s = steeringLoss{}
		return true
	case !before.at.IsZero() && time.Since(before.at) > lossShown:
		*s = steeringLoss{}
		return true
	}
	return false
}

// takenBy returns how a program was lost, as a sentence.
func takenBy(how string) string {
	if how == "" {
		return "the XDP program may be lost"
	}
	return "another process has " + how + " the XDP program"
}

// detachedText returns the text of the alarm about detached XDP programs; "": none. The caller
// holds mu.
func (e *Engine) detachedText() string {
	var all []string
	for i, s := range e.losses {
		name := e.hardware.Ports[i].Name
		switch {
		case s.err != nil:
			all = append(all, fmt.Sprintf("port %s is out of service: %s, and it cannot be attached again: %v", name, takenBy(s.how), s.err))
		case !s.at.IsZero():
			all = append(all, fmt.Sprintf("port %s: %s, and it was attached again: find out which one did it", name, takenBy(s.how)))
		}
	}
	return strings.Join(all, "; ")
}
