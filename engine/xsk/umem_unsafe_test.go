package xsk

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestFill checks that all pages are in memory afterwards.
func TestFill(t *testing.T) {
	u, err := NewUMEM(3000, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Fill(nil); err != nil {
		t.Fatal(err)
	}
	mem := u.Mem()
	resident := make([]byte, u.Frames())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for i, r := range resident {
		if r&1 == 0 {
			t.Fatalf("page %d of %d is not in memory", i, len(resident))
		}
	}
	maps, err := os.ReadFile("/proc/self/numa_maps")
	if err != nil {
		t.Log("a kernel without NUMA:", err)
		return
	}
	if want := fmt.Sprintf("%x prefer:0 ", uintptr(unsafe.Pointer(&mem[0]))); !strings.Contains(string(maps), want) {
		t.Errorf("the memory has no policy: %q is not in\n%s", want, maps)
	}
}
