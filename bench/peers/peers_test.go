package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"sluice/bench/testbed"
	"sluice/conf"
)

func TestSluiceConfigurationsAreValid(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []Sluice{
		{Mode: "nat"}, {Mode: "tun"}, {Mode: "dr"}, {Mode: "fullnat"},
		{Mode: "nat", Services: 1000}, {Mode: "nat", Backends: 1000}, {Mode: "nat", Connections: 2 << 20},
	} {
		p.Dir, p.Cores = dir, []int{0}
		path := filepath.Join(dir, "sluice.toml")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := toml.NewEncoder(file).Encode(p.config(&testbed.Bed{Options: testbed.Options{Backends: 100}})); err != nil {
			t.Fatal(err)
		}
		file.Close()
		if _, _, err := conf.Load(path, nil); err != nil {
			t.Errorf("%s with %d services and %d backends: %v", p.Mode, p.Services, p.Backends, err)
		}
	}
}

func TestRulesNameEveryBackendOnce(t *testing.T) {
	n := NFTables{Protocol: "udp", Backends: 5}
	rules := n.rules(&testbed.Bed{Options: testbed.Options{Backends: 3}})
	for _, want := range []string{"mod 5", "0 : 10.2.1.1 . 8080", "2 : 10.2.1.3 . 8080", "3 : 10.2.1.1 . 8081", "4 : 10.2.1.2 . 8081", "udp dport 80"} {
		if !strings.Contains(rules, want) {
			t.Errorf("the rules don't have %q:\n%s", want, rules)
		}
	}
}

func TestCountersSince(t *testing.T) {
	before := Counters{Known: true, Frames: 100, Received: 120, Batches: 10, Syscalls: 10, CPUNs: 1000}
	after := Counters{Known: true, Frames: 164, Received: 184, Batches: 11, Syscalls: 12, CPUNs: 2000}
	did := after.Since(before)
	if did.Frames != 64 || did.Received != 64 || did.Batches != 1 || did.SyscallsPerPacket() != 2.0/64 {
		t.Errorf("%+v, %v system calls per packet", did, did.SyscallsPerPacket())
	}
	if s := (Counters{Frames: 1}).SyscallsPerPacket(); s >= 0 {
		t.Errorf("who says nothing makes %v system calls per packet", s)
	}
	if s := (Counters{InKernel: true}).SyscallsPerPacket(); s != 0 {
		t.Errorf("the kernel makes %v system calls per packet", s)
	}
}

func TestWhatIsNotInstalledIsMissing(t *testing.T) {
	_, err := Install(false).find("sluice-bench-has-no-such-program", "no-package")
	if reason, missing := IsMissing(err); !missing || !strings.Contains(reason, "no-package") {
		t.Errorf("the error is %v", err)
	}
}
