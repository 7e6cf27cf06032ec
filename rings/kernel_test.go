package rings

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A ring's memory has two ends, so the test plays the kernel with the opposite end of the same
// memory.
func fillRing(t testing.TB, n int, start uint32) (*FillRing, *FromKernel[uint64], Memory[uint64]) {
	t.Helper()
	m := NewMemory[uint64](n)
	*m.Producer, *m.Consumer = start, start
	ours, err := NewToKernel(m)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := NewFromKernel(m)
	if err != nil {
		t.Fatal(err)
	}
	return ours, kernel, m
}

func TestKernelRingRefusesBadMemory(t *testing.T) {
	contradiction := NewMemory[Desc](4)
	*contradiction.Producer = 5
	behind := NewMemory[Desc](4)
	*behind.Consumer = 1
	for name, m := range map[string]Memory[Desc]{
		"no entries":        NewMemory[Desc](0),
		"not power of two":  NewMemory[Desc](3),
		"no words":          {Entries: make([]Desc, 4)},
		"too many produced": contradiction,
		"consumer ahead":    behind,
	} {
		if r, err := NewToKernel(m); err == nil {
			t.Errorf("%s: NewToKernel gave %v, want an error", name, r)
		}
		if r, err := NewFromKernel(m); err == nil {
			t.Errorf("%s: NewFromKernel gave %v, want an error", name, r)
		}
	}
}

func TestKernelRingNeedWakeup(t *testing.T) {
	r, _, m := fillRing(t, 4, 0)
	if r.NeedWakeup() {
		t.Error("wake-up needed with flags 0")
	}
	*m.Flags = needWakeup | 2
	if !r.NeedWakeup() {
		t.Error("wake-up not needed with flags 3")
	}
}

func TestKernelRingIndexWrap(t *testing.T) {
	r, kernel, m := fillRing(t, 8, ^uint32(0)-20)
	out := make([]uint64, 8)
	for i := range uint64(100) {
		in := []uint64{i, i + 1, i + 2, i + 3, i + 4}
		if n := r.Push(in); n != 5 || r.Queued() != 5 || r.Free() != 3 {
			t.Fatalf("round %d: pushed %d, queued %d, free %d, want 5, 5, 3", i, n, r.Queued(), r.Free())
		}
		if kernel.Available() != 5 {
			t.Fatalf("round %d: %d available, want 5", i, kernel.Available())
		}
		if n := kernel.Pop(out); n != 5 || !slices.Equal(out[:n], in) {
			t.Fatalf("round %d: popped %v, want %v", i, out[:n], in)
		}
	}
	if *m.Producer > 1000 {
		t.Fatalf("producer index %d never wrapped", *m.Producer)
	}
}

func TestKernelRingFullAndEmpty(t *testing.T) {
	r, kernel, _ := fillRing(t, 4, 0)
	if n := r.Push([]uint64{1, 2, 3, 4, 5}); n != 4 {
		t.Fatalf("pushed %d into 4, want 4", n)
	}
	if n := r.Push([]uint64{6}); n != 0 {
		t.Fatalf("pushed %d into a full ring", n)
	}
	out := make([]uint64, 3)
	if n := kernel.Pop(out); n != 3 || !slices.Equal(out, []uint64{1, 2, 3}) {
		t.Fatalf("popped %v", out[:n])
	}
	if n := r.Push([]uint64{6, 7, 8, 9}); n != 3 {
		t.Fatalf("pushed %d into 3 free slots, want 3", n)
	}
	out = make([]uint64, 9)
	if n := kernel.Pop(out); n != 4 || !slices.Equal(out[:n], []uint64{4, 6, 7, 8}) {
		t.Fatalf("popped %v, want [4 6 7 8]", out[:n])
	}
	if kernel.Pop(out) != 0 || kernel.Pop(nil) != 0 || r.Push(nil) != 0 {
		t.Fatal("an empty ring gave something")
	}
}

// Whatever stands in the other side's index, no slot outside the ring is touched, nothing is handed
// out twice or invented, and the ring works again when the index is possible again.
func TestKernelRingHostileIndex(t *testing.T) {
	hostile := []uint32{0, 1, 3, 4, 5, 99, 100, 101, 103, 104, 105, 1 << 31, ^uint32(0)}

	for _, evil := range hostile {
		r, _, m := fillRing(t, 4, 100)
		r.Push([]uint64{1, 2, 3})
		atomic.StoreUint32(m.Consumer, evil)
		r.Push([]uint64{4, 5, 6, 7, 8, 9, 10, 11})
		if q := r.Queued(); q < 0 || q > 4 || r.Free() != 4-q {
			t.Errorf("consumer %d: queued %d, free %d in a ring of 4", evil, q, r.Free())
		}
		atomic.StoreUint32(m.Consumer, atomic.LoadUint32(m.Producer))
		if r.Free() != 4 || r.Push([]uint64{12}) != 1 {
			t.Errorf("consumer %d: ring doesn't recover", evil)
		}
	}

	for _, evil := range hostile {
		m := NewMemory[Desc](4)
		*m.Producer, *m.Consumer = 102, 100
		r, err := NewFromKernel(m)
		if err != nil {
			t.Fatal(err)
		}
		atomic.StoreUint32(m.Producer, evil)
		got := r.Pop(make([]Desc, 64))
		if possible := evil - 100; possible <= 4 && got != int(possible) || possible > 4 && got > 2 {
			t.Errorf("producer %d, consumer 100: popped %d", evil, got)
		}
		if a := r.Available(); a < 0 || a > 4 {
			t.Errorf("producer %d: %d available in a ring of 4", evil, a)
		}
		atomic.StoreUint32(m.Producer, *m.Consumer+1)
		if r.Pop(make([]Desc, 4)) != 1 {
			t.Errorf("producer %d: ring doesn't recover", evil)
		}
	}
}

// The kernel is a goroutine that turns chunks from the fill ring into received frames and frames on
// the TX ring into completions; the worker forwards everything. All rings begin shortly before
// their indices wrap.
func TestKernelRingsTwoGoroutines(t *testing.T) {
	const chunks, total = 64, 100_000
	start := ^uint32(0) - 5000
	memory := func() Memory[uint64] { m := NewMemory[uint64](32); *m.Producer, *m.Consumer = start, start; return m }
	frames := func() Memory[Desc] { m := NewMemory[Desc](32); *m.Producer, *m.Consumer = start, start; return m }
	fillMem, completionMem, rxMem, txMem := memory(), memory(), frames(), frames()

	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		playKernel(fillMem, completionMem, rxMem, txMem, done)
	}()

	fill, _ := NewToKernel(fillMem)
	tx, _ := NewToKernel(txMem)
	rx, _ := NewFromKernel(rxMem)
	completion, _ := NewFromKernel(completionMem)
	free, descs := make([]uint64, chunks), make([]Desc, 24)
	for i := range free {
		free[i] = uint64(i) << 12
	}
	next := uint32(0)
	for forwarded := 0; forwarded < total; {
		free = free[fill.Push(free):]
		batch := descs[:rx.Pop(descs)]
		for _, d := range batch {
			if d.Len != next || d.Addr&0xfff != 0x100 {
				t.Fatalf("frame %d arrived as %+v", next, d)
			}
			next++
		}
		for sent := 0; sent < len(batch); runtime.Gosched() {
			sent += tx.Push(batch[sent:])
			var sentAddrs [16]uint64
			free = append(free, sentAddrs[:completion.Pop(sentAddrs[:])]...)
		}
		forwarded += len(batch)
		runtime.Gosched()
	}
	close(done)
	wg.Wait()

	checkChunks(t, chunks, free, fillMem, completionMem, rxMem, txMem)
}

// checkChunks empties the rings and checks that every chunk was in exactly one place: there or
// free.
func checkChunks(t *testing.T, chunks int, free []uint64, fill, completion Memory[uint64], rx, tx Memory[Desc]) {
	t.Helper()
	addrs, descs := make([]uint64, chunks), make([]Desc, chunks)
	for _, m := range []Memory[uint64]{fill, completion} {
		r, _ := NewFromKernel(m)
		free = append(free, addrs[:r.Pop(addrs)]...)
	}
	for _, m := range []Memory[Desc]{rx, tx} {
		r, _ := NewFromKernel(m)
		for _, d := range descs[:r.Pop(descs)] {
			free = append(free, d.Addr&^0xfff)
		}
	}
	slices.Sort(free)
	for i, a := range free {
		if len(free) != chunks || a != uint64(i)<<12 {
			t.Fatalf("%d chunks left of %d: %#x", len(free), chunks, free)
		}
	}
}

// playKernel numbers received frames in Len and puts them at offset 256, as the kernel does; it
// holds no frame when it returns.
func playKernel(fillMem, completionMem Memory[uint64], rxMem, txMem Memory[Desc], done chan struct{}) {
	fill, _ := NewFromKernel(fillMem)
	tx, _ := NewFromKernel(txMem)
	rx, _ := NewToKernel(rxMem)
	completion, _ := NewToKernel(completionMem)
	addrs, descs, number := make([]uint64, 16), make([]Desc, 16), uint32(0)
	for {
		n := fill.Pop(addrs[:min(len(addrs), rx.Free())])
		for i, a := range addrs[:n] {
			descs[i] = Desc{Addr: a + 256, Len: number}
			number++
		}
		rx.Push(descs[:n])
		n = tx.Pop(descs[:min(len(descs), completion.Free())])
		for i, d := range descs[:n] {
			addrs[i] = d.Addr &^ 0xfff
		}
		completion.Push(addrs[:n])
		select {
		case <-done:
			return
		default:
			runtime.Gosched()
		}
	}
}

// FuzzKernelRing replays bytes as commands on a ring with both its ends and on a slice.
func FuzzKernelRing(f *testing.F) {
	f.Add(uint8(3), uint32(0), []byte{0x05, 0x85, 0x3f, 0xff, 0x00})
	f.Add(uint8(2), ^uint32(0)-2, []byte{0x03, 0x82, 0x04, 0xff})
	f.Fuzz(func(t *testing.T, log2 uint8, start uint32, commands []byte) {
		r, kernel, _ := fillRing(t, 1<<(log2%7), start)
		slow := slowRing{capacity: r.Cap()}
		next, out := uint64(1), make([]uint64, 128)
		for i, command := range commands {
			n := int(command & 0x7f)
			if command < 0x80 {
				in := make([]uint64, n)
				for j := range in {
					in[j] = next + uint64(j)
				}
				took, want := r.Push(in), slow.insert(in)
				slow.publish()
				if took != want {
					t.Fatalf("command %d: Push took %d, want %d", i, took, want)
				}
				next += uint64(took)
			} else if got, want := out[:kernel.Pop(out[:n])], slow.pop(n); !slices.Equal(got, want) {
				t.Fatalf("command %d: Pop gave %v, want %v", i, got, want)
			}
			if q := len(slow.visible); r.Queued() != q || kernel.Available() != q || r.Free() != r.Cap()-q {
				t.Fatalf("command %d: queued %d, available %d, free %d, want %d queued", i, r.Queued(), kernel.Available(), r.Free(), q)
			}
		}
	})
}

func TestMap(t *testing.T) {
	mem := make([]byte, 4096)
	off := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	m, err := Map[Desc](mem, off, 64)
	if err != nil {
		t.Fatal(err)
	}
	atomic.StoreUint32(m.Producer, 0x01020304)
	m.Entries[63] = Desc{Addr: 0x1122334455667788, Len: 0xaabbccdd}
	at := 192 + 63*16
	if !slices.Equal(mem[:4], []byte{4, 3, 2, 1}) || mem[at] != 0x88 || mem[at+7] != 0x11 || mem[at+8] != 0xdd {
		t.Errorf("ring isn't laid over the mapping: % x, % x", mem[:4], mem[at:at+16])
	}
	if n := MapBytes[Desc](off, 64); n != 192+64*16 {
		t.Errorf("MapBytes is %d, want %d", n, 192+64*16)
	}
	last := uint64(len(mem))
	for name, c := range map[string]struct {
		off unix.XDPRingOffset
		n   int
	}{
		"entries past the end":    {off, 256},
		"entries start past it":   {unix.XDPRingOffset{Desc: last + 8}, 1},
		"entries start far away":  {unix.XDPRingOffset{Desc: ^uint64(0) - 7}, 1},
		"unaligned entries":       {unix.XDPRingOffset{Desc: 4}, 4},
		"unaligned index":         {unix.XDPRingOffset{Producer: 2, Desc: 192}, 4},
		"index past the end":      {unix.XDPRingOffset{Consumer: last, Desc: 192}, 4},
		"index far past the end":  {unix.XDPRingOffset{Flags: ^uint64(3), Desc: 192}, 4},
		"no entries":              {off, 0},
		"negative entries":        {off, -4},
		"absurdly many":           {off, maxCapacity * 2},
		"index across the end":    {unix.XDPRingOffset{Flags: last - 2, Desc: 192}, 4},
		"entries of exactly half": {unix.XDPRingOffset{Desc: last - 8}, 1},
	} {
		if _, err := Map[Desc](mem, c.off, c.n); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// One op is one address through a kernel ring, both ends on one core.
func BenchmarkKernelRing(b *testing.B) {
	r, kernel, _ := fillRing(b, 1024, 0)
	in, out := make([]uint64, 64), make([]uint64, 64)
	b.ReportAllocs()
	for i := 0; i < b.N; i += 64 {
		r.Push(in)
		kernel.Pop(out)
	}
}
