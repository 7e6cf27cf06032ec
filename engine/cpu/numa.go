package cpu

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// NodeOf is the NUMA node of a CPU, -1 if the kernel doesn't say. root is the root directory, of
// which /sys is read.
func NodeOf(root fs.FS, cpu int) int {
	links, _ := fs.Glob(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/node[0-9]*", cpu)) // the pattern is right
	if len(links) != 1 {
		return -1
	}
	return number(strings.TrimPrefix(path.Base(links[0]), "node"))
}

// NodeOfInterface is the NUMA node that a network interface's device is attached to, -1 if it is
// attached to none (veth, bridges, virtual machines) or the kernel doesn't say. It sees the
// interfaces of the network namespace that /sys was mounted in.
func NodeOfInterface(root fs.FS, name string) int {
	text, err := fs.ReadFile(root, "sys/class/net/"+name+"/device/numa_node")
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
