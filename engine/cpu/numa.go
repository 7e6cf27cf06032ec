package cpu

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// NodeOf returns the NUMA node of a CPU, or -1 if the kernel does not report it. root is the root
// directory; only /sys is read.
func NodeOf(root fs.FS, cpu int) int {
	// Glob fails only for an invalid pattern.
	links, _ := fs.Glob(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/node[0-9]*", cpu))
	if len(links) != 1 {
		return -1
	}
	return number(strings.TrimPrefix(path.Base(links[0]), "node"))
}

// NodeOfInterface returns the NUMA node of a network interface's device. It returns -1 if the
// device has none (veth, bridges, virtual machines) or the kernel does not report it. It sees the
// interfaces of the network namespace that /sys was mounted in.
func NodeOfInterface(root fs.FS, name string) int {
	text, err := fs.ReadFile(root, "sys/class/net/"+name+"/device/numa_node")
	if err != nil {
		return -1
	}
	return number(strings.TrimSpace(string(text)))
}

// number returns the non-negative number in text, or -1.
func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
