package host_test

import (
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/host"
	"sluice/tools/netlab"
)

func TestReadHasItsLoopback(t *testing.T) {
	here, err := host.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(here.Ports["lo"].Addresses, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("lo has addresses %v", here.Ports["lo"].Addresses)
	}
	if len(here.CPUs) == 0 {
		t.Error("this process runs, but on no CPU")
	}
}

// TestReadHasTheWorkersCPUs: a reload is read by a daemon that has left some CPUs to its
// workers.
func TestReadHasTheWorkersCPUs(t *testing.T) {
	before, err := host.Read()
	if err != nil {
		t.Fatal(err)
	}
	// Never unlocked: the thread and its affinity end with the test.
	runtime.LockOSThread()
	var one unix.CPUSet
	one.Set(before.CPUs[0])
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	if confined, err := host.Read(); err != nil || !slices.Equal(confined.CPUs, before.CPUs) {
		t.Errorf("CPUs %v, then %v: %v", before.CPUs, confined.CPUs, err)
	}
}

func TestReadKnowsWhatItsPortsReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	lab, err := netlab.New("sluice-host")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	left, err := lab.Host("left")
	try(err)
	right, err := lab.Host("right")
	try(err)
	try(lab.Link(left, "eth0", right, "eth0", netlab.LinkOptions{Queues: 2}))
	try(left.Addr("eth0", "10.9.0.1/24", "2001:db8:9::1/64"))
	try(left.Route("10.8.0.0/16", "eth0"))
	try(left.Route("10.7.0.0/16", "10.9.0.2"))

	var here *conf.Host
	try(left.Do(func() (err error) {
		here, err = host.Read()
		return err
	}))
	port := here.Ports["eth0"]
	if port.Queues != 2 {
		t.Errorf("eth0 has %d queues, not 2", port.Queues)
	}
	for _, address := range []string{"10.9.0.1", "2001:db8:9::1"} {
		if !slices.Contains(port.Addresses, netip.MustParseAddr(address)) {
			t.Errorf("%s is missing in %v", address, port.Addresses)
		}
	}
	reaches := func(address string) bool {
		return slices.ContainsFunc(port.OnLink, func(p netip.Prefix) bool { return p.Contains(netip.MustParseAddr(address)) })
	}
	for address, want := range map[string]bool{
		"10.9.0.11": true, "10.8.1.1": true, "10.7.0.1": false, "10.6.0.1": false,
		"2001:db8:9::11": true, "2001:db8:8::1": false,
	} {
		if reaches(address) != want {
			t.Errorf("%s is on-link: %v, want %v; prefixes %v", address, !want, want, port.OnLink)
		}
	}
}
