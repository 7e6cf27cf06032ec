package snat

import "testing"

// filled returns a Memory to which was added what it lacks for so many pools.
func filled(t *testing.T, pools int) *Memory {
	t.Helper()
	s := NewMemory(false)
	for kind, bytes := range s.Lacks(pools) {
		s.Add(kind, make([]byte, bytes))
	}
	if s.Lacks(pools) != [Kinds]int{} || s.Lacks(0) != [Kinds]int{} {
		t.Errorf("then it lacks %v for %d pools, and %v for none", s.Lacks(pools), pools, s.Lacks(0))
	}
	return s
}

func (s *Memory) left() (left [Kinds]int) {
	for i, k := range s.kinds() {
		left[i] = k.left()
	}
	return left
}

// TestMemoryFollowsUse takes ports of many pools, releases them, and wants all memory back.
func TestMemoryFollowsUse(t *testing.T) {
	const pools, perPool = 300, 40
	s := filled(t, pools)
	before := s.left()
	open := ports(1024, 65535)
	l := newLayout(every)
	var all []*Pool
	for i := range pools {
		all = append(all, newPool(l, open, uint16(i*200)))
	}
	if s.left() != before {
		t.Fatalf("pools without a port in use take memory: %v left of %v", s.left(), before)
	}
	taken := make([][]uint16, pools)
	for range perPool {
		for i, p := range all {
			port, _, ok := p.Alloc(s, open, 0)
			if !ok {
				t.Fatalf("pool %d has no port", i)
			}
			p.Bind(port, uint32(port))
			taken[i] = append(taken[i], port)
		}
	}
	left := s.left()
	if left[0] != before[0]-pools || left[2] < before[2]-2*pools || left[2] > before[2]-pools {
		t.Errorf("%d pools with %d ports each: %v left of %v", pools, perPool, left, before)
	}
	for i, p := range all {
		for n, port := range taken[i] {
			if slot, ok := p.Lookup(port); !ok || slot != uint32(port) {
				t.Fatalf("port %d is bound to %d, %t", port, slot, ok)
			}
			p.Release(s, port, uint32(n%2*RestMs), 0) // every second rests
		}
		if _, ok := p.Lookup(taken[i][0]); ok || p.InUse() != 0 {
			t.Fatal("a released port is still bound")
		}
		p.Forget(s)
	}
	if s.left() != before {
		t.Errorf("after all were released: %v left of %v", s.left(), before)
	}
	for _, p := range s.pages.free {
		for _, slot := range p.slots {
			if slot&bound != 0 {
				t.Fatal("a port of a free page is bound")
			}
		}
	}
}

// TestEmptyMemory uses up the memory. Then pools have no free ports, until a port is released.
func TestEmptyMemory(t *testing.T) {
	s := NewMemory(false)
	for kind, k := range s.kinds() {
		s.Add(kind, make([]byte, k.bytes(2)))
	}
	open := ports(1024, 65535)
	l := newLayout(every)
	first, second, third := newPool(l, open, 2000), newPool(l, open, 2000), newPool(l, open, 2000)
	port, _, ok := first.Alloc(s, open, 0)
	if _, _, also := second.Alloc(s, open, 0); !ok || !also {
		t.Fatal("two pools do not find memory for two")
	}
	if _, _, ok := third.Alloc(s, open, 0); ok || third.Free(s, open) != 0 {
		t.Fatal("a third one finds a port")
	}
	first.Release(s, port, RestMs, 0)
	if _, _, ok := third.Alloc(s, open, 0); !ok {
		t.Error("it finds none after the first has released its only port")
	}
}

// TestPoolBytes compares what pools are said to take at most with what they take.
func TestPoolBytes(t *testing.T) {
	const workers = 2
	open := ports(1024, 65535)
	least, most := PoolBytes(workers)
	took := least
	for worker := range workers {
		s := NewMemory(false)
		for kind, k := range s.kinds() {
			s.Add(kind, make([]byte, k.bytes(400)))
		}
		before := s.left()
		p := newPool(newLayout(func(w int) uint64 { return inTurn(worker, workers, w) }), open, 0)
		for ok := true; ok; {
			_, _, ok = p.Alloc(s, open, 0)
		}
		for i, k := range s.kinds() {
			took += k.bytes(before[i] - k.left())
		}
	}
	if took > most || took < most*9/10 || least > 1000 {
		t.Errorf("two pools take %d to %d bytes, and took %d", least, most, took)
	}
}
