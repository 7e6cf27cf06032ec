package cpu

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const sysfs = "/sys"

// NodeOf is the NUMA node of a CPU, -1 if the kernel doesn't say.
func NodeOf(cpu int) int { return nodeOf(sysfs, cpu) }

func nodeOf(root string, cpu int) int {
	links, _ := filepath.Glob(fmt.Sprintf("%s/devices/system/cpu/cpu%d/node[0-9]*", root, cpu))
	if len(links) != 1 {
		return -1
	}
	return number(strings.TrimPrefix(filepath.Base(links[0]), "node"))
}

// NodeOfInterface is the NUMA node that a network interface's device is attached to, -1 if it is attached to none
// (veth, bridges, virtual machines) or the kernel doesn't say. It sees the interfaces of the network namespace that
// /sys was mounted in.
func NodeOfInterface(name string) int { return nodeOfInterface(sysfs, name) }

func nodeOfInterface(root, name string) int {
	if strings.Contains(name, "/") {
		return -1
	}
	text, err := os.ReadFile(filepath.Join(root, "class/net", name, "device/numa_node"))
	if err != nil {
		return -1
	}
	return number(strings.TrimSpace(string(text)))
}

// number is -1 for what isn't a number from 0.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
