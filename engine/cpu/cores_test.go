package cpu

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestDefault(t *testing.T) {
	for _, c := range []struct{ allowed, want []int }{
		{[]int{0}, []int{0}},
		{[]int{3}, []int{3}},
		{[]int{0, 1}, []int{1}},
		{[]int{2, 5, 7}, []int{5, 7}},
	} {
		if got := Default(c.allowed); !slices.Equal(got, c.want) {
			t.Errorf("Default(%v) is %v, want %v", c.allowed, got, c.want)
		}
	}
}

func TestCoresOfThisMachine(t *testing.T) {
	allowed, err := Allowed()
	if err != nil || len(allowed) < 1 || !slices.IsSorted(allowed) {
		t.Fatalf("Allowed is %v, %v", allowed, err)
	}
	if got, err := Cores(nil); err != nil || !slices.Equal(got, Default(allowed)) {
		t.Errorf("Cores(nil) is %v, %v, want %v", got, err, Default(allowed))
	}
	backwards := slices.Clone(allowed)
	slices.Reverse(backwards)
	if got, err := Cores(backwards); err != nil || !slices.Equal(got, backwards) {
		t.Errorf("Cores(%v) is %v, %v, want the same order", backwards, got, err)
	}
	if _, err := Cores([]int{allowed[0], 8191}); err == nil || !strings.Contains(err.Error(), "CPU 8191") ||
		!strings.Contains(err.Error(), "allowed: "+FormatList(allowed)) {
		t.Errorf("Cores with CPU 8191: %v", err)
	}
}

func TestCheck(t *testing.T) {
	allowed, online := []int{0, 1, 4}, []int{0, 1, 2, 3, 4}
	for _, c := range []struct {
		cores, online []int
		want          []string
	}{
		{[]int{4, 0}, online, nil},
		{[]int{3}, online, []string{"CPU 3 is not allowed", "allowed: 0-1,4", "taskset"}},
		{[]int{9}, online, []string{"CPU 9 is offline", "online: 0-4", "allowed: 0-1,4"}},
		{[]int{-1}, online, []string{"CPU -1 is offline or does not exist"}},
		{[]int{9}, nil, []string{"CPU 9 is not allowed"}},
		{[]int{1, 1}, online, []string{"CPU 1 is listed twice"}},
		{[]int{2, 1, 9, 1}, online, []string{"CPU 2 is not allowed", "CPU 9 is offline", "CPU 1 is listed twice"}},
	} {
		err := check(c.cores, allowed, c.online)
		if (err == nil) != (c.want == nil) {
			t.Errorf("check(%v): %v", c.cores, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("check(%v): %q doesn't contain %q", c.cores, err, want)
			}
		}
	}
}

// pinned runs f on a thread that ends afterwards.
func pinned(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func TestPin(t *testing.T) {
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	for _, core := range allowed {
		pinned(func() {
			if err := Pin(core); err != nil {
				t.Error(err)
			}
			if got, err := affinity(); err != nil || !slices.Equal(got, []int{core}) {
				t.Errorf("pinned to CPU %d, the thread may run on %v, %v", core, got, err)
			}
			if got, _ := Allowed(); !slices.Equal(got, allowed) {
				t.Errorf("seen from a pinned thread, the process may run on %v, want %v", got, allowed)
			}
		})
	}
	for _, core := range []int{-1, 8191, 8192, 1 << 40} {
		pinned(func() {
			if err := Pin(core); err == nil || !strings.Contains(err.Error(), "CPU ") {
				t.Errorf("Pin(%d): %v", core, err)
			}
		})
	}
}

func TestWorkerOf(t *testing.T) {
	var got []int
	for queue := range 7 {
		got = append(got, WorkerOf(queue, 3))
	}
	if want := []int{0, 1, 2, 0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("workers of queues 0 to 6 are %v, want %v", got, want)
	}
}
