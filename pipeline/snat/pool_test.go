package snat

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// memory is what the pools of all tests take from.
var memory = NewMemory(true)

func ports(first, last uint16) *PortSet {
	s := new(PortSet)
	s.Add(first, last)
	return s
}

// every returns all ports: there is one worker.
func every(int) uint64 { return ^uint64(0) }

// TestPoolsDivide allocates every port of every worker: each port comes exactly once, and belongs
// to the worker.
func TestPoolsDivide(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 64, 100} {
		allowed := ports(1024, 65535)
		taken := new(PortSet)
		for w := range workers {
			pool := newPool(newLayout(func(word int) uint64 { return inTurn(w, workers, word) }), allowed, 40_000)
			for {
				port, early, ok := pool.Alloc(memory, allowed, 0)
				if !ok {
					break
				}
				if early || taken.Has(port) || !allowed.Has(port) || int(port)%workers != w {
					t.Fatalf("%d workers: worker %d took port %d, early: %t", workers, w, port, early)
				}
				taken.Add(port, port)
			}
		}
		if taken.Len() != 65536-1024 {
			t.Errorf("%d workers took %d ports of %d", workers, taken.Len(), 65536-1024)
		}
	}
}

// slowPool is Pool with lists and maps.
type slowPool struct {
	all        []uint16 // ours that may be open at any time, ascending
	ours, open *PortSet
	inUse      map[uint16]uint32 // slot
	queue      []restingPort
	next       uint16
}

type restingPort struct {
	port       uint16
	releasedMs uint32
}

// rests compares times as coarsely as releases.
func (r *restingPort) rests(nowMs uint32) bool {
	return (nowMs/spanMs-r.releasedMs/spanMs)%(1<<32/spanMs) < spans
}

func (s *slowPool) free() (n int) {
	for _, port := range s.all {
		if s.isFree(port) {
			n++
		}
	}
	return n
}

func (s *slowPool) isFree(port uint16) bool {
	_, used := s.inUse[port]
	return !used && s.open.Has(port) && s.ours.Has(port)
}

func (s *slowPool) isQueued(port uint16) bool {
	return slices.ContainsFunc(s.queue, func(q restingPort) bool { return q.port == port })
}

func (s *slowPool) wake(nowMs uint32) {
	for range wakes {
		if len(s.queue) > 0 && !s.queue[0].rests(nowMs) {
			s.queue = s.queue[1:]
		}
	}
}

// alloc returns the next port, and for how long it has rested if that is too short, else -1.
func (s *slowPool) alloc(nowMs uint32) (port uint16, restedMs int) {
	s.wake(nowMs)
	for i := range len(s.all) * 2 {
		port = s.all[i%len(s.all)]
		if (i >= len(s.all) || port >= s.next) && s.isFree(port) && !s.isQueued(port) {
			s.next = port + 1
			return port, -1
		}
	}
	head := s.queue[0]
	s.queue = s.queue[1:]
	return head.port, int(nowMs - head.releasedMs)
}

func (s *slowPool) release(port uint16, idleMs, nowMs uint32) {
	delete(s.inUse, port)
	if idleMs < RestMs && s.open.Has(port) {
		s.queue = append(s.queue, restingPort{port, nowMs})
	}
}

// TestPoolAgainstSlowPool replays random allocations and releases on a pool of some ports and on
// its slow twin, while time passes and the ports that may be allocated change.
func TestPoolAgainstSlowPool(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	sets := []*PortSet{ports(1030, 1200), ports(1100, 1300), new(PortSet)}
	sets[0].Add(40000, 40100)
	ours := new(PortSet)
	for w := range ours {
		ours[w] = random.Uint64() | random.Uint64()
	}
	const start = 1150
	pool := newPool(newLayout(func(w int) uint64 { return ours[w] }), sets[0], start)
	slow := &slowPool{ours: ours, open: sets[0], inUse: make(map[uint16]uint32), next: start}
	for port := uint16(1030); port < 40101; port++ {
		if ours.Has(port) && (sets[0].Has(port) || sets[1].Has(port)) {
			slow.all = append(slow.all, port)
		}
	}
	nowMs := uint32(1<<32 - 100_000)
	early := 0
	for step := range 200_000 {
		nowMs += random.Uint32N(1 + uint32(step/50_000)*400)
		if random.IntN(1000) == 0 {
			if next := sets[random.IntN(len(sets))]; next != slow.open {
				slow.open, slow.queue = next, nil
			}
			if got, want := pool.Free(memory, slow.open), slow.free(); got != want || pool.InUse() != len(slow.inUse) {
				t.Fatalf("step %d: %d ports are free and %d in use, want %d and %d", step, got, pool.InUse(), want, len(slow.inUse))
			}
		}
		probe := uint16(1020 + random.IntN(290))
		slot, ok := pool.Lookup(probe)
		if want, used := slow.inUse[probe]; ok != used || ok && slot != want {
			t.Fatalf("step %d: port %d is bound to %d, %t; want %d, %t", step, probe, slot, ok, want, used)
		}
		if random.IntN(2) == 0 {
			early += comparePools(t, step, pool, slow, nowMs)
			continue
		}
		for port := range slow.inUse {
			idleMs := random.Uint32N(2 * RestMs)
			pool.Release(memory, port, idleMs, nowMs)
			slow.release(port, idleMs, nowMs)
			break
		}
	}
	if early == 0 {
		t.Error("no port was reused early")
	}
}

// comparePools allocates a port of both, if there is one, and returns how many were reused early.
func comparePools(t *testing.T, step int, pool *Pool, slow *slowPool, nowMs uint32) int {
	t.Helper()
	available := pool.Free(memory, slow.open)
	ahead := min(available-1, 5)
	if next, ok := pool.Peek(memory, slow.open, available, nowMs); ok {
		t.Fatalf("step %d: Peek returns port %d after all %d", step, next, available)
	}
	for { // until all that have rested are ready: else Alloc may know of more than Peek
		if n := len(slow.queue); n == 0 || slow.queue[0].rests(nowMs) {
			break
		}
		slow.wake(nowMs)
		pool.wake(memory, nowMs)
	}
	peeked, _ := pool.Peek(memory, slow.open, max(ahead, 0), nowMs)
	early := 0
	for i := range ahead + 1 {
		want, restedMs := slow.alloc(nowMs)
		port, soon, ok := pool.Alloc(memory, slow.open, nowMs)
		if !ok || port != want || i == ahead && port != peeked {
			t.Fatalf("step %d: Alloc returns %d, %t, want %d; after %d others Peek returned %d", step, port, ok, want, ahead, peeked)
		}
		if soon != (restedMs >= 0) || restedMs >= RestMs+2*spanMs {
			t.Fatalf("step %d: port %d has rested for %d ms, early: %t", step, port, restedMs, soon)
		}
		if soon {
			early++
		}
		pool.Bind(port, uint32(step))
		slow.inUse[port] = uint32(step)
	}
	if _, _, ok := pool.Alloc(memory, slow.open, nowMs); ok != (available > ahead+1) {
		t.Fatalf("step %d: Alloc reports %t with %d ports left", step, ok, available-ahead-1)
	} else if ok {
		port, _ := slow.alloc(nowMs)
		pool.Bind(port, uint32(step))
		slow.inUse[port] = uint32(step)
	}
	return early
}

// TestPortsReusedLate counts how many other ports are allocated before a released one is allocated
// again.
func TestPortsReusedLate(t *testing.T) {
	all := ports(1024, 65535)
	for _, idleMs := range []uint32{0, RestMs} {
		pool := newPool(newLayout(every), all, 0)
		first, _, _ := pool.Alloc(memory, all, 0)
		pool.Release(memory, first, idleMs, 0)
		for i := 1; ; i++ {
			port, early, _ := pool.Alloc(memory, all, 0)
			if port == first {
				if want := 65536 - 1024; i != want || early != (idleMs < RestMs) {
					t.Errorf("port %d was allocated again after %d others, want %d; early: %t", first, i, want, early)
				}
				break
			}
			pool.Release(memory, port, idleMs, 0)
		}
	}
}

// TestLeave refuses the first port and all in the same stretch, as a backend does that has half of
// the ports in TIME_WAIT. However the stretch lies, one leap must end outside it.
func TestLeave(t *testing.T) {
	open := ports(1024, 28671)
	open.Add(61000, 65535)
	var all []uint16
	for port := FirstPort; port <= 65535; port++ {
		if open.Has(uint16(port)) {
			all = append(all, uint16(port))
		}
	}
	random := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		from := random.IntN(len(all))
		used := func(port uint16) bool {
			at, _ := slices.BinarySearch(all, port)
			return (at-from+len(all))%len(all) < len(all)/2
		}
		pool := newPool(newLayout(every), open, all[(from+random.IntN(len(all)/2-1))%len(all)])
		first, _, _ := pool.Alloc(memory, open, 0)
		second, _, _ := pool.Alloc(memory, open, 0)
		if !used(first) || !used(second) {
			t.Fatalf("ports %d and %d, want two of the stretch from %d on", first, second, all[from])
		}
		if !pool.Leave(memory, first, open, 0) {
			t.Fatal("the pool has a port for which nothing is known, but does not leave the first")
		}
		third, _, _ := pool.Alloc(memory, open, 0)
		if !pool.Leave(memory, second, open, 0) { // both were refused before it was known
			t.Fatal("the pool does not leave the second port")
		}
		fourth, _, _ := pool.Alloc(memory, open, 0)
		at := func(port uint16) int { i, _ := slices.BinarySearch(all, port); return i }
		if used(third) || used(fourth) && at(third) != (from-1+len(all))%len(all) || at(fourth) != (at(third)+1)%len(all) {
			t.Fatalf("the stretch begins at %d; from %d and %d the search leaps to %d and %d", all[from], first, second, third, fourth)
		}
	}
}

// TestLeapsDivide refuses every port, and wants the search to look everywhere.
func TestLeapsDivide(t *testing.T) {
	all := ports(1024, 65535)
	pool := newPool(newLayout(every), all, 3000)
	seen := make(map[uint16]bool)
	for range 8 {
		port, _, _ := pool.Alloc(memory, all, 0)
		seen[(port-3000)/8192] = true
		pool.Leave(memory, port, all, 0)
	}
	if len(seen) < 7 {
		t.Errorf("eight leaps have met %d of eight parts of the ports", len(seen))
	}
}

// TestLeaveNothing keeps the port if all others were released lately.
func TestLeaveNothing(t *testing.T) {
	few := ports(2000, 2003)
	pool := newPool(newLayout(every), few, 2000)
	for range 4 {
		pool.Alloc(memory, few, 1)
	}
	if pool.Leave(memory, 2000, few, 1) {
		t.Error("leaves a port although all are allocated")
	}
	pool.Release(memory, 2001, 0, 1)
	if pool.Leave(memory, 2000, few, RestMs) {
		t.Error("leaves a port for one that was released less than a minute ago")
	}
	if !pool.Leave(memory, 2000, few, 2*RestMs) {
		t.Error("keeps a port although another has rested")
	}
}
