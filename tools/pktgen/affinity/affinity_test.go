package affinity_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/engine/cpu"
	"sluice/tools/netlab"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/labtest"
)

// TestDoRunsInTheNamespace: Do enters a namespace by name and by path, and the caller's thread
// stays in its own.
func TestDoRunsInTheNamespace(t *testing.T) {
	pair := labtest.NewPair(t, netlab.LinkOptions{})
	outside := namespace(t)
	for _, name := range []string{pair.Sender.Namespace(), filepath.Join("/run/netns", pair.Sender.Namespace())} {
		p := affinity.Affinity{Netns: name, CPU: affinity.AnyCPU}
		for range 20 {
			labtest.Must(t, p.Do(func() error {
				device, err := net.InterfaceByName("eth0")
				if err == nil && device.HardwareAddr.String() != net.HardwareAddr(pair.SendAt.MAC[:]).String() {
					err = errors.New("eth0 is another host's")
				}
				return err
			}))
			if namespace(t) != outside {
				t.Fatal("the caller's thread has moved")
			}
		}
	}
}

func namespace(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	labtest.Must(t, err)
	return name
}

// TestDoPins: the function runs on the CPU, and other threads keep their affinity.
func TestDoPins(t *testing.T) {
	allowed, err := cpu.Allowed()
	labtest.Must(t, err)
	for _, want := range allowed {
		labtest.Must(t, affinity.Affinity{CPU: want}.Do(func() error {
			var set unix.CPUSet
			if err := unix.SchedGetaffinity(0, &set); err != nil {
				return err
			}
			if set.Count() != 1 || !set.IsSet(want) {
				return errors.New("it isn't pinned to the CPU")
			}
			return nil
		}))
	}
	labtest.Must(t, affinity.Affinity{CPU: affinity.AnyCPU}.Do(func() error {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return err
		}
		if set.Count() != len(allowed) {
			return errors.New("it is pinned though it shall not be")
		}
		return nil
	}))
}

func TestErrors(t *testing.T) {
	wanted := errors.New("as the function says")
	if err := (affinity.Affinity{CPU: affinity.AnyCPU}).Do(func() error { return wanted }); !errors.Is(err, wanted) {
		t.Errorf("error %v", err)
	}
	for want, p := range map[string]affinity.Affinity{
		"network namespace no-such-one": {Netns: "no-such-one", CPU: affinity.AnyCPU},
		"pin to CPU 100000":             {CPU: 100_000},
	} {
		if err := p.Do(func() error { t.Error("it ran"); return nil }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
