package cpu

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNodes(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"devices/system/cpu/cpu2/node1/cpulist":      "2-3\n",
		"devices/system/cpu/cpu3/topology/core_id":   "3\n",
		"devices/system/cpu/cpu12/node10/cpulist":    "12\n",
		"class/net/eth0/device/numa_node":            "1\n",
		"class/net/eth0.100/device/numa_node":        "0\n",
		"class/net/virtual/device/numa_node":         "-1\n",
		"class/net/veth0/mtu":                        "1500\n",
		"class/net/strange/device/numa_node":         "one\n",
		"class/net/outside/elsewhere/class/net/file": "",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for cpu, want := range map[int]int{2: 1, 3: -1, 12: 10, 1: -1, -1: -1} {
		if got := nodeOf(root, cpu); got != want {
			t.Errorf("node of CPU %d is %d, want %d", cpu, got, want)
		}
	}
	for name, want := range map[string]int{
		"eth0": 1, "eth0.100": 0, "virtual": -1, "veth0": -1, "strange": -1, "absent": -1, "": -1, "outside/../eth0": -1, "..": -1,
	} {
		if got := nodeOfInterface(root, name); got != want {
			t.Errorf("node of interface %q is %d, want %d", name, got, want)
		}
	}
}

// Whatever this machine is, asking it doesn't fail.
func TestNodesOfThisMachine(t *testing.T) {
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	for _, cpu := range allowed {
		if node := NodeOf(cpu); node < -1 {
			t.Errorf("node of CPU %d is %d", cpu, node)
		}
	}
	if node := NodeOfInterface("lo"); node != -1 {
		t.Errorf("node of lo is %d, want -1: it has no device", node)
	}
}
