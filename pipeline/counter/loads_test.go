package counter_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/counter"
)

func TestLoadsSumsOverWorkers(t *testing.T) {
	l := counter.NewLoads(3, 10)
	l.Add(0, 4, 2, 1)
	l.Add(1, 4, 5, 0)
	l.Add(2, 4, -1, 7)
	l.Add(2, 9, 1, 0)
	for backend, want := range map[uint32]counter.Load{4: {Active: 6, Inactive: 8}, 9: {Active: 1}, 0: {}, 3: {}, 5: {}} {
		if got := l.Of(backend); got != want {
			t.Errorf("backend %d: %+v, want %+v", backend, got, want)
		}
	}
}

// The two halves of a cell must not borrow from or carry into each other.
func TestLoadsHalvesAreIndependent(t *testing.T) {
	l := counter.NewLoads(2, 1)
	l.Add(0, 0, 0, -1)
	if got := l.Of(0); got.Active != 0 {
		t.Errorf("inactive below zero changed active: %+v", got)
	}
	l.Add(1, 0, 1, 1)
	if got, want := l.Of(0), (counter.Load{Active: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	l.Add(0, 0, 1<<30, 1<<30)
	l.Add(0, 0, 1<<30, 1<<30)
	if got, want := l.Of(0), (counter.Load{Active: 1<<31 + 1, Inactive: 1 << 31}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestLoadsOutOfRangePanics(t *testing.T) {
	l := counter.NewLoads(2, 3)
	for name, call := range map[string]func(){
		"Of":           func() { l.Of(3) },
		"Add":          func() { l.Add(0, 3, 1, 0) },
		"Add (worker)": func() { l.Add(2, 0, 1, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s accepted an index out of range; it would count for another backend", name)
				}
			}()
			call()
		}()
	}
}

// Workers write their own rows while readers sum: run with -race. A reader must never see half of
// an update.
func TestLoadsConcurrent(t *testing.T) {
	const workers, readers, backends, rounds = 4, 2, 5, 2000
	l := counter.NewLoads(workers, backends)
	stop, wrote, read := make(chan struct{}), make(chan struct{}), make(chan struct{})
	for range readers {
		go func() {
			defer func() { read <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for b := range uint32(backends) {
					if got := l.Of(b); got.Active != got.Inactive {
						t.Errorf("backend %d: half an update seen: %+v", b, got)
						return
					}
				}
			}
		}()
	}
	for w := range workers {
		go func() {
			for i := range rounds {
				b := uint32(i % backends)
				l.Add(w, b, 3, 3)
				l.Add(w, b, -2, -2)
			}
			wrote <- struct{}{}
		}()
	}
	for range workers {
		<-wrote
	}
	close(stop)
	for range readers {
		<-read
	}
	want := counter.Load{Active: workers * rounds / backends, Inactive: workers * rounds / backends}
	for b := range uint32(backends) {
		if got := l.Of(b); got != want {
			t.Errorf("backend %d: %+v, want %+v", b, got, want)
		}
	}
}

func TestLoadsAllocateNothing(t *testing.T) {
	l := counter.NewLoads(2, 8)
	if n := testing.AllocsPerRun(100, func() { l.Add(1, 7, 1, -1); _ = l.Of(7) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLoadsOf(b *testing.B) {
	for _, workers := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			l := counter.NewLoads(workers, 1024)
			var sum uint32
			for i := 0; b.Loop(); i++ {
				sum += l.Of(uint32(i) & 1023).Active
			}
			_ = sum
		})
	}
}

func BenchmarkLoadsAdd(b *testing.B) {
	l := counter.NewLoads(1, 1024)
	for i := 0; b.Loop(); i++ {
		l.Add(0, uint32(i)&1023, 1, 0)
	}
}
