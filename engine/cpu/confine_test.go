package cpu

import (
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConfine checks that existing threads and later ones are bound, and that a pinned thread stays
// where it was.
func TestConfine(t *testing.T) {
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	first := allowed[:1]
	if spare := Spare(first); !slices.Equal(spare, allowed[1:]) {
		t.Errorf("spare of %v without %v: %v", allowed, first, spare)
	}
	if err := Confine(first); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Confine(allowed); err != nil {
			t.Error(err)
		}
	}()
	where, pinned := make(chan []int), make(chan []int)
	for range 20 { // more threads than there were
		go func() {
			runtime.LockOSThread() // ends with the goroutine
			on, _ := affinity()
			where <- on
		}()
	}
	go func() {
		runtime.LockOSThread()
		last := allowed[len(allowed)-1]
		if err := Pin(last); err != nil {
			t.Error(err)
		}
		inherited := make(chan []int)
		go func() {
			runtime.LockOSThread()
			on, _ := affinity()
			inherited <- on
		}()
		if on := <-inherited; !slices.Equal(on, first) {
			t.Errorf("a thread started beside a pinned one is on %v", on)
		}
		on, _ := affinity()
		pinned <- on
	}()
	for range 20 {
		if on := <-where; !slices.Equal(on, first) {
			t.Errorf("a thread is on %v, not on %v", on, first)
		}
	}
	if on := <-pinned; !slices.Equal(on, allowed[len(allowed)-1:]) {
		t.Errorf("the pinned thread is on %v", on)
	}
}

// TestSetTimeSlices checks that existing threads and later ones have the slice, on kernels that
// know such slices.
func TestSetTimeSlices(t *testing.T) {
	slice := func() uint64 {
		attr, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return 0
		}
		return attr.Runtime
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	usual := slice()
	if usual == 0 {
		t.Skip("this kernel has no slices for threads: Linux 6.12 is the first")
	}
	const ns = 200_000
	if err := SetTimeSlices(ns); err != nil {
		t.Fatal(err)
	}
	later := make(chan uint64)
	go func() {
		runtime.LockOSThread()
		later <- slice()
	}()
	if got := <-later; got != ns || slice() != ns {
		t.Errorf("slices of %d and %d ns, want %d", slice(), got, ns)
	}
	if err := SetTimeSlices(0); err != nil {
		t.Fatal(err)
	}
	if got := slice(); got != usual {
		t.Errorf("then a slice of %d ns, want %d again", got, usual)
	}
}
