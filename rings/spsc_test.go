package rings

import (
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
)

func TestSPSCCapacity(t *testing.T) {
	for _, c := range []struct{ ask, want int }{{1, 1}, {2, 2}, {3, 4}, {64, 64}, {65, 128}, {4096, 4096}} {
		p, k := NewSPSC[Desc](c.ask)
		if p.Cap() != c.want || k.Cap() != c.want || p.Free() != c.want || k.Len() != 0 {
			t.Errorf("NewSPSC(%d): caps %d and %d, free %d, len %d, want %d, %d, %d, 0",
				c.ask, p.Cap(), k.Cap(), p.Free(), k.Len(), c.want, c.want, c.want)
		}
	}
	for _, n := range []int{0, -1, maxCapacity + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewSPSC(%d) did not panic", n)
				}
			}()
			NewSPSC[Desc](n)
		}()
	}
}

func TestSPSCInsertIsInvisibleUntilPublish(t *testing.T) {
	p, c := NewSPSC[int](4)
	var out [8]int
	if n := p.Insert([]int{1, 2}); n != 2 {
		t.Fatalf("Insert took %d, want 2", n)
	}
	if n := c.Pop(out[:]); n != 0 || c.Len() != 0 {
		t.Fatalf("Pop saw %d entries, Len %d, before Publish", n, c.Len())
	}
	if n := p.Insert([]int{3, 4, 5}); n != 2 {
		t.Fatalf("Insert into the rest took %d, want 2", n)
	}
	p.Publish()
	if n := c.Pop(out[:]); n != 4 || !slices.Equal(out[:4], []int{1, 2, 3, 4}) {
		t.Fatalf("Pop gave %v, want [1 2 3 4]", out[:n])
	}
}

func TestSPSCEmptyBatches(t *testing.T) {
	p, c := NewSPSC[int](2)
	if p.Push(nil) != 0 || c.Pop(nil) != 0 || c.Pop(make([]int, 3)) != 0 {
		t.Fatal("empty batches moved something")
	}
	p.Push([]int{7, 8})
	if p.Push([]int{9}) != 0 || p.Free() != 0 || c.Pop(nil) != 0 || c.Len() != 2 {
		t.Fatal("a full ring took an entry or lost one")
	}
}

// No pair of cache lines is written by two goroutines, and what one of them reads all the time is
// on a pair of its own.
func TestSPSCLayout(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Producer[Desc]](), reflect.TypeFor[Consumer[Desc]]()} {
		if typ.Size() != 2*lineBytes {
			t.Errorf("%v has %d bytes, want %d", typ, typ.Size(), 2*lineBytes)
		}
		if own := typ.Field(2); typ.Field(0).Offset != 0 || own.Offset != lineBytes {
			t.Errorf("%v: field %s begins at byte %d, want %d: away from what the other side reads", typ, own.Name, own.Offset, lineBytes)
		}
	}
	for range 100 {
		p, c := NewSPSC[Desc](8)
		if a, b := reflect.ValueOf(p).Pointer(), reflect.ValueOf(c).Pointer(); a%lineBytes != 0 || b%lineBytes != 0 {
			t.Fatalf("ends at %#x and %#x, want multiples of %d", a, b, lineBytes)
		}
	}
}

func TestSPSCAllocatesNothing(t *testing.T) {
	p, c := NewSPSC[Desc](64)
	in, out := make([]Desc, 48), make([]Desc, 48)
	if n := testing.AllocsPerRun(100, func() { p.Push(in); c.Pop(out) }); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
}

// Indices that wrap (they would after centuries) change nothing.
func TestSPSCIndexWrap(t *testing.T) {
	p, c := NewSPSC[int](8)
	start := ^uint64(0) - 20
	p.published.Store(start)
	p.inserted, p.taken, c.ready = start, start, start
	c.took = start
	c.released.Store(start)
	var out [5]int
	for i := range 100 {
		in := []int{i, i + 1, i + 2, i + 3, i + 4}
		if n := p.Push(in); n != 5 {
			t.Fatalf("round %d: pushed %d, want 5", i, n)
		}
		if n := c.Pop(out[:]); n != 5 || !slices.Equal(out[:], in) {
			t.Fatalf("round %d: popped %v, want %v", i, out[:n], in)
		}
	}
}

func TestSPSCTwoGoroutines(t *testing.T) {
	const total = 200_000
	p, c := NewSPSC[Desc](256)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		rng := rand.New(rand.NewPCG(1, 2))
		batch := make([]Desc, 100)
		for sent := 0; sent < total; {
			n := min(1+rng.IntN(len(batch)), total-sent)
			for i := range batch[:n] {
				batch[i] = Desc{Addr: uint64(sent + i), Len: uint32(sent + i), Options: ^uint32(sent + i)}
			}
			took := p.Push(batch[:n])
			if sent += took; took == 0 {
				runtime.Gosched()
			}
		}
	}()
	batch := make([]Desc, 70)
	for got := 0; got < total; {
		n := c.Pop(batch)
		for i, d := range batch[:n] {
			if want := (Desc{uint64(got + i), uint32(got + i), ^uint32(got + i)}); d != want {
				t.Fatalf("entry %d is %+v, want %+v", got+i, d, want)
			}
		}
		if got += n; n == 0 {
			runtime.Gosched()
		}
	}
	wg.Wait()
	if c.Len() != 0 {
		t.Errorf("%d entries too many", c.Len())
	}
}

// slowRing is the twin of a ring: a slice with a limit.
type slowRing struct {
	visible, hidden []uint64
	capacity        int
}

func (r *slowRing) insert(src []uint64) int {
	n := min(len(src), r.capacity-len(r.visible)-len(r.hidden))
	r.hidden = append(r.hidden, src[:n]...)
	return n
}

func (r *slowRing) publish() { r.visible, r.hidden = append(r.visible, r.hidden...), nil }

func (r *slowRing) pop(n int) []uint64 {
	n = min(n, len(r.visible))
	out := r.visible[:n:n]
	r.visible = r.visible[n:]
	return out
}

// FuzzSPSC replays bytes as commands on a ring and on its twin: two bits say what, six how many.
func FuzzSPSC(f *testing.F) {
	f.Add(uint8(3), []byte{0x05, 0x45, 0x80, 0xc3, 0x3f, 0xff, 0x00})
	f.Add(uint8(0), []byte{0x01, 0xc1, 0x02, 0x80, 0xc2})
	f.Fuzz(func(t *testing.T, log2 uint8, commands []byte) {
		p, c := NewSPSC[uint64](1 << (log2 % 7))
		slow := slowRing{capacity: p.Cap()}
		next, out := uint64(1), make([]uint64, 64)
		for i, command := range commands {
			n := int(command & 0x3f)
			in := make([]uint64, n)
			for j := range in {
				in[j] = next + uint64(j)
			}
			switch command >> 6 {
			case 0, 1: // Insert; with 1, Publish too
				took, want := p.Insert(in), slow.insert(in)
				if took != want {
					t.Fatalf("command %d: Insert took %d, want %d", i, took, want)
				}
				next += uint64(took)
				if command>>6 == 1 {
					p.Publish()
					slow.publish()
				}
			case 2:
				p.Publish()
				slow.publish()
			case 3:
				got, want := out[:c.Pop(out[:n])], slow.pop(n)
				if !slices.Equal(got, want) {
					t.Fatalf("command %d: Pop gave %v, want %v", i, got, want)
				}
			}
			if free := slow.capacity - len(slow.visible) - len(slow.hidden); p.Free() != free || c.Len() != len(slow.visible) {
				t.Fatalf("command %d: free %d, len %d, want %d, %d", i, p.Free(), c.Len(), free, len(slow.visible))
			}
		}
	})
}

// One op is one descriptor through the ring, both ends on one core.
func BenchmarkSPSC(b *testing.B) {
	for _, size := range []int{1, 8, 64} {
		b.Run(map[int]string{1: "batch=1", 8: "batch=8", 64: "batch=64"}[size], func(b *testing.B) {
			p, c := NewSPSC[Desc](1024)
			in, out := make([]Desc, size), make([]Desc, size)
			b.ReportAllocs()
			for i := 0; i < b.N; i += size {
				p.Push(in)
				c.Pop(out)
			}
		})
	}
}

// One op is one descriptor from one goroutine to another in batches of up to 64.
func BenchmarkSPSCTwoGoroutines(b *testing.B) {
	p, c := NewSPSC[Desc](1024)
	go func() {
		in := make([]Desc, 64)
		for sent := 0; sent < b.N; {
			n := p.Push(in[:min(64, b.N-sent)])
			if sent += n; n == 0 {
				runtime.Gosched()
			}
		}
	}()
	out := make([]Desc, 64)
	for got := 0; got < b.N; {
		n := c.Pop(out)
		if got += n; n == 0 {
			runtime.Gosched()
		}
	}
}
