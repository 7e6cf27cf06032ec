package netlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
)

// Lab is a set of hosts with the links between them. Its methods may be called by any goroutine.
type Lab struct {
	name  string
	maker maker
	close func() error // closeAll, once

	mu      sync.Mutex
	closed  bool
	hosts   []*Host
	closers []io.Closer // closed by Close, last one first
	links   int         // links made so far; numbers the MAC addresses
}

// legalName excludes dots, because names become parts of a file name that dots separate.
var legalName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

func checkName(what, name string) error {
	if legalName.MatchString(name) {
		return nil
	}
	return fmt.Errorf("netlab: %s name %q: use 1 to 32 of a-z 0-9 _ -, a letter or digit first", what, name)
}

// New returns an empty lab. First it removes the labs of processes that died before their Close; it
// fails if that is not possible. It needs root.
func New(name string) (*Lab, error) {
	if err := checkName("lab", name); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("netlab: making network namespaces needs root: run this with sudo")
	}
	self, err := thisProcess()
	if err != nil {
		return nil, err
	}
	unlock, err := openRunDir()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := sweep(); err != nil {
		return nil, err
	}
	l := &Lab{name: name, maker: self}
	l.close = sync.OnceValue(l.closeAll)
	return l, nil
}

// Host adds a host: a namespace with lo up and the sysctls of a quiet test machine. IPv6 addresses
// are usable at once, router advertisements are ignored, and packets are not filtered by source.
// Forwarding stays off (see Sysctl).
func (l *Lab) Host(name string) (*Host, error) {
	if err := checkName("host", name); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, l.closedError()
	}
	h, err := newHost(l, name)
	if err != nil {
		return nil, fmt.Errorf("netlab: host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	return h, nil
}

// CloseLater makes Close close c, the last one first, while all hosts still exist. A lab that is
// closed already closes c at once.
func (l *Lab) CloseLater(c io.Closer) {
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.closers = append(l.closers, c)
	}
	l.mu.Unlock()
	if closed {
		c.Close()
	}
}

// Close kills every process in the lab's namespaces and removes the namespaces, and with them all
// interfaces. All steps are tried even if one fails; the error joins all failures. Calls after the
// first wait for it and return its result.
func (l *Lab) Close() error { return l.close() }

func (l *Lab) closeAll() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()

	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i].Close())
	}
	spaces := map[nsID]bool{}
	for _, h := range l.hosts {
		h.killStarted()
		spaces[h.id] = true
	}
	errs = append(errs, killIn(spaces))
	for _, h := range l.hosts {
		errs = append(errs, h.awaitStarted())
		h.release()
		errs = append(errs, removeNamespace(h.Namespace()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netlab: closing lab %s: %w", l.name, err)
	}
	return nil
}

func (l *Lab) closedError() error { return fmt.Errorf("netlab: lab %s is closed", l.name) }
