package health

import (
	"errors"
	"slices"
	"syscall"
)

// lacks are the errors of system calls when this host has no file descriptors, ports or memory.
// A connect fails with EADDRNOTAVAIL or EAGAIN when no port, or no address to send from, is left.
var lacks = []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.EAGAIN, syscall.ENOMEM, syscall.ENOBUFS}

// lacking reports whether a probe failed because of this host: it was not run, and its error says
// nothing about the backend.
func lacking(err error) bool {
	return slices.ContainsFunc(lacks, func(lack error) bool { return errors.Is(err, lack) })
}

// setNotRun records why the last probe of a check could not be run; nil: it was run. It reports
// whether that changes the number of such checks. The caller holds mu.
func (p *Prober) setNotRun(r *runner, err error) (changed bool) {
	if r.removed {
		return false
	}
	_, before := p.notRun[r]
	if err != nil {
		p.notRun[r] = err
	} else {
		delete(p.notRun, r)
	}
	return before != (err != nil)
}

// NotRun returns for how many checks the last probe could not be run because of this host, and the
// error of one of them.
func (p *Prober) NotRun() (checks int, example error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.notRun {
		return len(p.notRun), err
	}
	return 0, nil
}
