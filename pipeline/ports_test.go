package pipeline

import (
	"math/rand/v2"
	"testing"
)

func ports(first, last uint16) *PortSet {
	s := new(PortSet)
	s.Add(first, last)
	return s
}

// every port is the only worker's.
func every(int) uint64 { return ^uint64(0) }

// TestPoolsShareOut takes every port of every worker: each comes once, belongs to who took it, and all come
// back.
func TestPoolsShareOut(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 64, 100} {
		allowed := ports(1024, 65535)
		taken := new(PortSet)
		for w := range workers {
			pool := newPortPool(allowed, func(word int) uint64 { return byNumber(w, workers, word) })
			for {
				port, ok := pool.take()
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

// TestPoolAgainstMap replays random takes and gives on a pool and on a map of what is in use.
func TestPoolAgainstMap(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	allowed := ports(1000, 1200)
	allowed.Add(40000, 40100)
	pool := newPortPool(allowed, every)
	inUse := map[uint16]bool{}
	var order []uint16
	for step := range 200_000 {
		if random.IntN(2) == 0 || len(order) == 0 {
			port, ok := pool.take()
			if ok != (len(inUse) < allowed.Len()) {
				t.Fatalf("step %d: take says %v with %d of %d in use", step, ok, len(inUse), allowed.Len())
			}
			if !ok {
				continue
			}
			if inUse[port] || !allowed.Has(port) {
				t.Fatalf("step %d: took port %d", step, port)
			}
			inUse[port] = true
			order = append(order, port)
			continue
		}
		i := random.IntN(len(order))
		port := order[i]
		order[i] = order[len(order)-1]
		order = order[:len(order)-1]
		delete(inUse, port)
		pool.give(port)
	}
}

// TestPortsRest gives a port back and counts how many others are taken before it comes again.
func TestPortsRest(t *testing.T) {
	pool := newPortPool(ports(1024, 65535), every)
	first, _ := pool.take()
	pool.give(first)
	for i := 1; ; i++ {
		port, _ := pool.take()
		if port == first {
			if want := 65536 - 1024; i != want {
				t.Fatalf("port %d came again after %d others, want %d", first, i, want)
			}
			return
		}
		pool.give(port)
	}
}
