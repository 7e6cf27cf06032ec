package steer_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

// heartbeatLimit is HEARTBEAT_NS in steer.c.
const heartbeatLimit = 300 * time.Millisecond

// reach is what the XDP program does with a frame for Sluice on a queue with a socket or without,
// with the time since the last heartbeat of its worker; never: there was none. It is the
// specification of redirect in steer.c, without clocks.
func reach(c *steer.Counters, socket, never bool, since time.Duration) (action uint32) {
	switch {
	case !never && since > heartbeatLimit:
		c.NoWorker++
		return drop
	case !socket:
		c.NoSocket++
		return drop
	}
	c.Redirected++
	return redirect
}

// TestHeartbeat compares the program with reach: the frames of a queue are dropped when its worker
// has given no heartbeat for a while, and all others go where they went.
func TestHeartbeat(t *testing.T) {
	port := testPort(t)
	service := packet(t, ip(client4, web4, pTCP), tcp(1234, 80))
	other := packet(t, ip(client4, web4, pTCP), tcp(1234, 22))
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0) // the map takes it before it is bound
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	random := rand.New(rand.NewPCG(3, 4))
	var want steer.Counters
	run := func(frame []byte, want uint32, why ...any) {
		t.Helper()
		if got, err := port.Run(frame); err != nil || got != want {
			t.Errorf("action %d (%v), want %d: %v", got, err, want, why)
		}
	}
	// Ages at which a test that is slow changes nothing: those below the limit lie in the future.
	// The coarse clock lags by 10 ms at most.
	ages := []time.Duration{-time.Hour, -time.Minute, heartbeatLimit + 50*time.Millisecond, time.Second, time.Hour}
	beat, registered := port.Heartbeat(0), false
	for range 1000 {
		if random.IntN(4) == 0 {
			if registered = !registered; registered {
				err = port.Register(0, socket)
			} else {
				err = port.Unregister(0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		never, age := random.IntN(4) == 0, ages[random.IntN(len(ages))]
		beat.Store(monotonic(t) - int64(age))
		if never {
			beat.Store(0)
		}
		run(service, reach(&want, registered, never, age), registered, never, age)
		run(other, pass, registered, never, age)
		want.Passed++
	}
	if got, err := port.Counters(); err != nil || got != want {
		t.Errorf("counters %+v (%v), want %+v", got, err, want)
	}
	if want.NoWorker == 0 || want.NoSocket == 0 || want.Redirected == 0 {
		t.Errorf("the test lacks an outcome: %+v", want)
	}
}

// monotonic returns the kernel's monotonic time in ns.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano()
}

// holder holds descriptors as an estate.Store does.
type holder map[string]int

func (h holder) Names() []string { return slices.Collect(maps.Keys(h)) }

func (h holder) Take(name string) (int, bool) {
	fd, ok := h[name]
	if ok {
		fd, _ = unix.Dup(fd)
	}
	return fd, ok
}

func (h holder) Put(name string, fd int) error {
	copied, err := unix.Dup(fd)
	h.Remove(name)
	h[name] = copied
	return err
}

func (h holder) Remove(name string) error {
	if fd, ok := h[name]; ok {
		unix.Close(fd)
	}
	delete(h, name)
	return nil
}

// TestCountersOutliveTheProcess: a program that takes the place of a former one counts on, also
// what that one dropped when its process was dead.
func TestCountersOutliveTheProcess(t *testing.T) {
	enterNamespace(t)
	lo := loopback(t)
	held := holder{}
	var ports []*steer.Port
	for range 2 {
		program, err := steer.Load()
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		program.Inherit(held)
		port, err := program.Attach(lo.Attrs().Index, steer.Generic)
		if err != nil {
			t.Fatal(err)
		}
		if err := program.Hold(port); err != nil {
			t.Fatal(err)
		}
		if err := program.Set(testRules()); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	service := packet(t, ip(client4, web4, pTCP), tcp(1234, 80))
	ports[0].Heartbeat(0).Store(1) // long ago
	for _, port := range []*steer.Port{ports[0], ports[0], ports[1]} {
		if got, err := port.Run(service); err != nil || got != drop {
			t.Fatalf("action %d: %v", got, err)
		}
	}
	want := steer.Counters{NoWorker: 3} // the heartbeats are those of the former process, too
	if got, err := ports[1].Counters(); err != nil || got.NoWorker != want.NoWorker || got.NoSocket != want.NoSocket {
		t.Errorf("counters %+v, %v; want %+v", got, err, want)
	}
	if err := ports[1].Close(); err != nil {
		t.Error(err)
	}
	if len(held) > 0 {
		t.Errorf("after the end of the last one the holder has %v", held)
	}
}
