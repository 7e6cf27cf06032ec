package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Kinds of death.
const (
	// killed: the server ends by SIGKILL; its kernel ends its connections and refuses others
	killed = "killed"
	silent = "silent" // the host's cable is pulled: nothing answers
	// hung: the server stops by SIGSTOP; its kernel still accepts and acknowledges
	hung = "hung"
)

// Death is one death of a backend.
type Death struct {
	Backend string // b1, b2, b3
	Server  string // the name of the server that died
	Kind    string
	At      time.Time
	Back    time.Time // zero: not yet

	Broken map[string]int // connections that it explains, by why and phase
}

// String returns when and what.
func (d *Death) String() string {
	back := "still"
	if !d.Back.IsZero() {
		back = fmt.Sprintf("%.1f s", d.Back.Sub(d.At).Seconds())
	}
	return fmt.Sprintf("%s %s %s for %s", clock(d.At), d.Backend, d.Kind, back)
}

// outage is a time during which the daemon had a backend of a service down.
type outage struct {
	service, backend string
	down, up         time.Time // up is zero: still
}

// timeline is what happened to the backends. Any goroutine may use it.
type timeline struct {
	// notice is how long the daemon may take to notice that a backend has died or is back.
	notice time.Duration

	mu      sync.Mutex
	deaths  []*Death
	outages []*outage
}

func (t *timeline) die(d *Death) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.Broken = map[string]int{}
	t.deaths = append(t.deaths, d)
}

func (t *timeline) back(d *Death, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.Back = at
}

// state records that the daemon has a backend of a service down, or not any more.
func (t *timeline) state(service, backend string, down bool, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.outages {
		if o.service == service && o.backend == backend && o.up.IsZero() {
			if !down {
				o.up = at
			}
			return
		}
	}
	if down {
		t.outages = append(t.outages, &outage{service: service, backend: backend, down: at})
	}
}

// explain returns the death that broke a connection, or nil. backend is where the connection was if
// its server did not say its name: what the daemon's table says, or "" if nothing is known, when
// any backend could have it.
func (t *timeline) explain(b Broken, backend string) *Death {
	if b.Server != "" {
		backend, _, _ = strings.Cut(b.Server, "#")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.deaths {
		if (backend == "" || backend == d.Backend) && t.breaks(d, b) || b.Server == "" && t.moves(d, b) {
			return d
		}
	}
	return nil
}

// moves reports whether a connection began at a backend that died, and was sent elsewhere by the
// daemon during the handshake, because its client repeated the SYN after the daemon had noticed. In
// tun and dr, a backend that only hangs may then complete the handshake that another one answers.
func (t *timeline) moves(d *Death, b Broken) bool {
	for _, o := range t.outages {
		if o.service == b.Service && t.noticed(d, o) && b.Began.Before(o.down) && o.down.Before(b.Ended.Add(publishTime)) {
			return true
		}
	}
	return false
}

// breaks reports whether a death explains what happened to a connection at its backend: the
// connection was at the server that was killed, it was sent there while that was dead and nothing
// had noticed yet, or the daemon ended it because it had the backend down.
func (t *timeline) breaks(d *Death, b Broken) bool {
	alive := !d.Back.IsZero() && b.Began.After(d.Back)
	if b.Ended.Before(d.At) {
		return false
	}
	if d.Kind == killed && !alive && (b.Server == "" || b.Server == d.Server) {
		return true
	}
	for _, o := range t.outages {
		if o.service == b.Service && o.backend == d.Backend && t.noticed(d, o) &&
			!b.Ended.Add(publishTime).Before(o.down) && (o.up.IsZero() || b.Began.Before(o.up)) {
			return true
		}
	}
	return false
}

// publishTime is how long before its event an outage may have effect.
const publishTime = time.Second

// noticed reports whether the daemon had the backend down because of this death.
func (t *timeline) noticed(d *Death, o *outage) bool {
	return o.backend == d.Backend && !o.down.Before(d.At) && (d.Back.IsZero() || o.down.Before(d.Back.Add(t.notice)))
}

// groundless returns the outages without a death.
func (t *timeline) groundless() (all []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.outages {
		grounds := false
		for _, d := range t.deaths {
			grounds = grounds || t.noticed(d, o)
		}
		if !grounds {
			all = append(all, fmt.Sprintf("%s: %s was down from %s on, and had not died", o.service, o.backend, clock(o.down)))
		}
	}
	return all
}
