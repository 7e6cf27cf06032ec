package snat

import (
	"math/rand/v2"
	"testing"
)

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
			pool := newPool(allowed, func(word int) uint64 { return inTurn(w, workers, word) })
			for {
				port, ok := pool.Alloc(allowed)
				if !ok {
					break
				}
				if taken.Has(port) || !allowed.Has(port) || int(port)%workers != w {
					t.Fatalf("%d workers: worker %d took port %d", workers, w, port)
				}
				taken.Add(port, port)
			}
		}
		if taken.Len() != 65536-1024 {
			t.Errorf("%d workers took %d ports of %d", workers, taken.Len(), 65536-1024)
		}
	}
}

// TestPoolAgainstMap replays random allocations and releases on a pool of some ports, and on a map
// of which port is bound to which slot, while the ports that may be allocated change.
func TestPoolAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	sets := []*PortSet{ports(1030, 1200), ports(1100, 1300), new(PortSet)}
	sets[0].Add(40000, 40100)
	ours := new(PortSet)
	for w := range ours {
		ours[w] = random.Uint64() | random.Uint64()
	}
	open := sets[0]
	pool := newPool(open, func(w int) uint64 { return ours[w] })
	inUse := map[uint16]uint32{}
	free := func() (n int) {
		for port := FirstPort; port <= 65535; port++ {
			if _, used := inUse[uint16(port)]; !used && open.Has(uint16(port)) && ours.Has(uint16(port)) {
				n++
			}
		}
		return n
	}
	var order []uint16
	for step := range 200_000 {
		if step%1000 == 0 {
			open = sets[random.IntN(len(sets))]
			if got, want := pool.Free(open), free(); got != want || pool.InUse() != len(inUse) {
				t.Fatalf("step %d: %d ports are free and %d in use, want %d and %d", step, got, pool.InUse(), want, len(inUse))
			}
		}
		probe := uint16(1020 + random.IntN(290))
		if slot, ok := pool.Lookup(probe); ok {
			if want, used := inUse[probe]; !used || slot != want {
				t.Fatalf("step %d: port %d is bound to %d, want %d, in use: %t", step, probe, slot, want, used)
			}
		} else if slot, used := inUse[probe]; used {
			t.Fatalf("step %d: port %d is not found, want %d", step, probe, slot)
		}
		if random.IntN(2) == 0 || len(order) == 0 {
			available := pool.Free(open)
			port, ok := pool.Alloc(open)
			if ok != (available > 0) {
				t.Fatalf("step %d: Alloc reports %v with %d ports free", step, ok, available)
			}
			if !ok {
				continue
			}
			if _, used := inUse[port]; used || !ours.Has(port) || !open.Has(port) {
				t.Fatalf("step %d: allocated port %d", step, port)
			}
			inUse[port] = uint32(step)
			pool.Bind(port, uint32(step))
			order = append(order, port)
			continue
		}
		i := random.IntN(len(order))
		port := order[i]
		order[i] = order[len(order)-1]
		order = order[:len(order)-1]
		delete(inUse, port)
		pool.Release(port)
	}
}

// TestPortsReusedLate counts how many other ports are allocated before a released one is allocated
// again.
func TestPortsReusedLate(t *testing.T) {
	all := ports(1024, 65535)
	pool := newPool(all, every)
	first, _ := pool.Alloc(all)
	pool.Release(first)
	for i := 1; ; i++ {
		port, _ := pool.Alloc(all)
		if port == first {
			if want := 65536 - 1024; i != want {
				t.Fatalf("port %d was allocated again after %d others, want %d", first, i, want)
			}
			return
		}
		pool.Release(port)
	}
}
