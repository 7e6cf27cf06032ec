package linux

import (
	"sync"

	"sluice/engine/steer"
)

// outcomes are the counters of the ports' XDP programs. Any goroutine may read them, also while a
// port is opened or closed.
type outcomes struct {
	mu   sync.Mutex
	open map[int]*steer.Port
	last map[int]steer.Counters
}

// use makes p the open port of this number; nil: none is open, and what it counted stays.
func (o *outcomes) use(port int, p *steer.Port) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open, o.last = make(map[int]*steer.Port), make(map[int]steer.Counters)
	}
	if p == nil {
		_, _ = o.read(port)
		delete(o.open, port)
		return
	}
	o.open[port] = p
}

// read returns the counters of a port. The caller holds mu.
func (o *outcomes) read(port int) (c steer.Counters, err error) {
	if p := o.open[port]; p != nil {
		if c, err = p.Counters(); err == nil {
			o.last[port] = c
		}
	}
	return o.last[port], err
}

// Outcomes implements platform.Platform.
func (k *Kernel) Outcomes(port int) (steer.Counters, error) {
	k.outcomes.mu.Lock()
	defer k.outcomes.mu.Unlock()
	return k.outcomes.read(port)
}
