package counter_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"sluice/pipeline/counter"
)

// id returns the number of the n-th source.
func id(n int) uint64 { return (uint64(n) + 1) * 0x9e3779b97f4a7c15 }

// TestSources compares the counts with a map, while there is space for all.
func TestSources(t *testing.T) {
	const most = 5
	s, r := counter.NewSources(), rand.New(rand.NewPCG(1, 2))
	open := make(map[int]uint32)
	for step := range 100_000 {
		n := r.IntN(1000) // at the start of the clock: no slot has been used
		if r.IntN(2) == 0 {
			want := counter.SourceAdmitted
			if open[n] >= most {
				want = counter.SourceFull
			} else {
				open[n]++
			}
			if got := s.Admit(id(n), 500, most, 0); got != want {
				t.Fatalf("step %d: %v, want %v", step, got, want)
			}
		} else if open[n] > 0 {
			open[n]--
			s.Release(id(n))
		}
		if got := s.Open(id(n)); got != open[n] {
			t.Fatalf("step %d: %d connections, want %d", step, got, open[n])
		}
	}
}

// TestSourcesBeyondMemory checks that sources that find no place are admitted, and that those that
// end make room.
func TestSourcesBeyondMemory(t *testing.T) {
	s := counter.NewSources()
	const many = 1_000_000
	for n := range many {
		if v := s.Admit(id(n), 5000, 1, 1); v != counter.SourceAdmitted {
			t.Fatalf("source %d is refused: %v", n, v)
		}
	}
	counted := 0
	for n := range many {
		counted += int(s.Open(id(n)))
		s.Release(id(n))
	}
	if counted < 100_000 {
		t.Errorf("only %d sources are counted", counted)
	}
	for n := range 1000 {
		if v := s.Admit(id(many+n), 60_000, 1, 1); v != counter.SourceAdmitted || s.Open(id(many+n)) != 1 {
			t.Fatalf("source %d: %v, %d counted", n, v, s.Open(id(many+n)))
		}
		if v := s.Admit(id(many+n), 60_000, 1, 0); v != counter.SourceFull {
			t.Fatalf("source %d has two: %v", n, v)
		}
	}
}

// TestSourcesConcurrently checks that workers together admit as many as are allowed, and that no
// count remains when all have ended, although slots change hands.
func TestSourcesConcurrently(t *testing.T) {
	s := counter.NewSources()
	var workers sync.WaitGroup
	admitted := make([][64]int, 4)
	for w := range 4 {
		workers.Go(func() {
			for round := range 2000 {
				n := round % 64
				if s.Admit(id(n), 5000, 10, 0) == counter.SourceAdmitted {
					admitted[w][n]++
				}
			}
		})
	}
	workers.Wait()
	for n := range 64 {
		sum := 0
		for w := range admitted {
			sum += admitted[w][n]
		}
		if sum != 10 || s.Open(id(n)) != 10 {
			t.Errorf("source %d: %d admitted, %d counted, want 10", n, sum, s.Open(id(n)))
		}
	}
}
