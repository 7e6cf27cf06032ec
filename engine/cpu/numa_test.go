package cpu

import (
	"os"
	"testing"
	"testing/fstest"
)

func TestNodes(t *testing.T) {
	root := fstest.MapFS{}
	for path, content := range map[string]string{
		"sys/devices/system/cpu/cpu2/node1/cpulist":      "2-3\n",
		"sys/devices/system/cpu/cpu3/topology/core_id":   "3\n",
		"sys/devices/system/cpu/cpu12/node10/cpulist":    "12\n",
		"sys/class/net/eth0/device/numa_node":            "1\n",
		"sys/class/net/eth0.100/device/numa_node":        "0\n",
		"sys/class/net/virtual/device/numa_node":         "-1\n",
		"sys/class/net/veth0/mtu":                        "1500\n",
		"sys/class/net/strange/device/numa_node":         "one\n",
		"sys/class/net/outside/elsewhere/class/net/file": "",
	} {
		root[path] = &fstest.MapFile{Data: []byte(content)}
	}
	for cpu, want := range map[int]int{2: 1, 3: -1, 12: 10, 1: -1, -1: -1} {
		if got := NodeOf(root, cpu); got != want {
			t.Errorf("node of CPU %d is %d, want %d", cpu, got, want)
		}
	}
	for name, want := range map[string]int{
		"eth0": 1, "eth0.100": 0, "virtual": -1, "veth0": -1, "strange": -1, "absent": -1, "": -1, "outside/../eth0": -1, "..": -1,
	} {
		if got := NodeOfInterface(root, name); got != want {
			t.Errorf("node of interface %q is %d, want %d", name, got, want)
		}
	}
}

// TestNodesOfThisMachine checks that reading the nodes works on any machine.
func TestNodesOfThisMachine(t *testing.T) {
	allowed, err := Allowed()
	if err != nil {
		t.Fatal(err)
	}
	root := os.DirFS("/")
	for _, cpu := range allowed {
		if node := NodeOf(root, cpu); node < -1 {
			t.Errorf("node of CPU %d is %d", cpu, node)
		}
	}
	if node := NodeOfInterface(root, "lo"); node != -1 {
		t.Errorf("node of lo is %d, want -1: it has no device", node)
	}
}
