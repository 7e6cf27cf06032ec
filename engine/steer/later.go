package steer

import "sync"

// later is the attachment of a port on which the former program goes on meanwhile.
type later struct {
	running sync.WaitGroup
	loaded  chan struct{} // closed when the program is loaded or refused; nil: loaded at once
	err     error         // why the former program goes on; Port.mu guards it
}

// AttachLater is Attach for a port of which this process has taken over the sockets. If the former
// process's program is in place, AttachLater returns at once: that program goes on, and steers to
// these sockets by its own rules. The new one takes its place when it is loaded, after the first
// Set. What goes wrong then, Restore returns.
func (p *Program) AttachLater(ifindex int, mode Mode) (*Port, error) {
	if f := p.former[ifindex]; f == nil || f.mode != mode {
		return p.Attach(ifindex, mode)
	}
	port, err := p.newPort(ifindex, mode)
	if err != nil {
		return nil, err
	}
	p.adopt(port)
	loaded := make(chan struct{})
	port.later.loaded = loaded
	port.later.running.Go(func() {
		defer close(loaded)
		p.loading.Lock() // one at a time, so that CPUs are left for others
		defer p.loading.Unlock()
		port.failed(p.load(port))
	})
	return port, nil
}

// failed notes why the former program goes on.
func (p *Port) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.later.err = err
}

// replaceLater is replace once the program is loaded.
func (p *Port) replaceLater(f *formerLink) {
	p.later.running.Go(func() {
		<-p.later.loaded
		p.mu.Lock()
		err := p.later.err
		p.mu.Unlock()
		if err == nil {
			err = p.replace(f)
		}
		p.failed(err)
	})
}
