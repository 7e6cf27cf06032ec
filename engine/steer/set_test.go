package steer_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// TestSetFollows: after each Set exactly its rules hold.
func TestSetFollows(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	lo := loopback(t)
	if err := program.Detour(lo.Attrs().Index); err != nil {
		t.Fatal(err)
	}
	port := attach(t, program, lo, steer.Generic)
	full := testRules()
	versions := []steer.Rules{
		{},
		full,
		full,
		{Services: full.Services, Locals: full.Locals},
		{Services: full.Services, Locals: full.Locals, Stations: full.Stations},
		{Replies: full.Replies, Pools: full.Pools, Stations: full.Stations[1:]},
		{Replies: full.Replies, Locals: full.Locals, Stations: full.Stations[:1]},
		{Probed: full.Probed, Probers: full.Probers, Stations: full.Stations},
		{Services: full.Services, Probed: full.Probed, Stations: stations(loopbackIndex + 1)},
		{Services: full.Replies, Replies: full.Services, Pools: full.Services, Stations: full.Stations},
		full,
		{},
	}
	for i, rules := range versions {
		if err := program.Set(rules); err != nil {
			t.Fatal(err)
		}
		if err := program.Forget(); err != nil {
			t.Fatal(err)
		}
		decider, memory := steer.NewDecider(rules), steer.NewMemory()
		for _, c := range cases(t) {
			if got, want := actionOf(t, port, c.frame), actionOn(decider.DecideAt(loopbackIndex, c.frame, memory)); got != want {
				t.Errorf("version %d, %s: action %v, want %v", i, c.name, got, want)
			}
		}
	}
}

// TestSetNeverMisses sends frames while the rules change all the time. A frame that goes to Sluice
// under all of them, by the same rule or another, always does; likewise one that goes to the
// kernel.
func TestSetNeverMisses(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	port := attach(t, program, loopback(t), steer.Generic)
	one := steer.Rules{
		Services: []service.Key{key(web4, 80, 80, service.TCP), key(any4, 0, 65535, service.UDP)},
		Replies:  []service.Key{key(b4, 8080, 8080, service.TCP)},
		Locals:   addrs(h4),
		Stations: stations(loopbackIndex)[:1],
	}
	two := steer.Rules{
		Services: []service.Key{key(web4, 70, 99, service.TCP), key(any4, 53, 53, service.UDP)},
		Replies:  []service.Key{key(b4, 8000, 8099, service.TCP), key(bAny4, 2, 2, service.UDP)},
		Locals:   addrs(h4, l4), // l4 comes together with a backend that talks to it
		Stations: stations(loopbackIndex),
	}
	three := steer.Rules{
		Services: []service.Key{key(web4, 0, 65535, service.TCP), key(any4, 53, 54, service.UDP)},
		Replies:  []service.Key{key(b4, 0, 65535, service.TCP), key(bAny4, 1, 1, service.UDP)},
		Locals:   addrs(h4),
		Stations: append(stations(loopbackIndex+1), stations(loopbackIndex)[0]),
	}
	frames := []struct {
		frame []byte
		ours  bool
	}{
		{packet(t, ip(client4, web4, pTCP), tcp(1234, 80)), true},
		{packet(t, ip(client4, any4, pUDP), udp(1234, 53)), true},
		{packet(t, ip(b4, client4, pTCP), tcp(8080, 1234)), true},
		{packet(t, fragment4(client4, web4, pTCP, 0, true), tcp(1234, 80)), true},
		{packet(t, ip(b4, h4, pTCP), tcp(8080, 1234)), false},
		{packet(t, ip(bAny4, l4, pUDP), udp(2, 1234)), false},
		{packet(t, ip(client4, other4, pTCP), tcp(1234, 80)), false},
	}
	// Many others, so that a Set takes long enough to be seen half done.
	for i, r := range []*steer.Rules{&one, &two, &three} {
		ports := service.Ports{First: 80, Last: 80 + uint16(i%2)}
		r.Services = append(r.Services, manyServices(500, byte(i), ports)...)
	}
	if err := program.Set(one); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var sender sync.WaitGroup
	sender.Go(func() {
		for n := 0; !stop.Load(); n++ {
			f := frames[n%len(frames)]
			action, err := port.Run(f.frame)
			if err != nil || (action == drop) != f.ours {
				t.Errorf("frame %d, run %d: action %d (%v), want ours = %v", n%len(frames), n, action, err, f.ours)
				return
			}
		}
	})
	for n := range 30 {
		if err := program.Set([]steer.Rules{two, three, one}[n%3]); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	sender.Wait()
}
