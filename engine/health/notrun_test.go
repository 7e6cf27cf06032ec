package health_test

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"sluice/pipeline/service"

	. "sluice/engine/health"
)

// TestNoFileDescriptors checks that probes without a file descriptor count neither as success nor
// as failure, and that checks go on when there are some again.
func TestNoFileDescriptors(t *testing.T) {
	target := serve(t, func(net.Conn) {})
	told := make(chan struct{}, 1)
	p := New(Config{OnNotRun: func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}})
	defer p.Close()
	check := Check{Type: TCP, Target: target, Interval: 5 * time.Millisecond, Timeout: slow, Rise: 1, Fall: 1}
	if err := p.Set(map[service.BackendID]Check{id(1): check}); err != nil {
		t.Fatal(err)
	}
	await := func(what string, happened func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it never happened that", what)
			}
		}
	}
	state := func() State { return p.States()[id(1)] }
	await("the check has a result", func() bool { return !state().Checked.IsZero() })

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	setLimit := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			t.Error(err)
		}
	}
	setLimit(none)
	defer setLimit(limit)
	for _, kind := range []Type{TCP, HTTP, HTTPS, UDP, DNS} {
		if err := Probe(t.Context(), Check{Type: kind, Target: target, Timeout: slow}); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	await("the check is not run", func() bool { n, err := p.NotRun(); return n == 1 && errors.Is(err, syscall.EMFILE) })
	<-told
	checked := state().Checked
	if s := state(); !s.Up || s.Failing || s.Last != "" {
		t.Errorf("%+v", s)
	}
	setLimit(limit)
	await("the check is run again", func() bool { n, _ := p.NotRun(); return n == 0 && state().Checked.After(checked) })
	<-told
}
