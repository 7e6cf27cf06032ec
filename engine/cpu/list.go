package cpu

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseList reads the kernel's notation for sets of CPUs, "0-3,8,10-11" (cpuset(7), List Format);
// white space around it is ignored, and an empty list is one.
func ParseList(text string) ([]int, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var cpus []int
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 16)
		last, err2 := strconv.ParseUint(high, 10, 16)
		if err1 != nil || err2 != nil || first > last || last >= maxCPUs {
			return nil, fmt.Errorf("CPU list %q: %q is neither a CPU from 0 to %d nor a range of them", text, part, maxCPUs-1)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}

// FormatList writes ascending CPUs in the notation that ParseList reads, "none" if there are none.
func FormatList(cpus []int) string {
	if len(cpus) == 0 {
		return "none"
	}
	var parts []string
	for i := 0; i < len(cpus); {
		end := i + 1
		for end < len(cpus) && cpus[end] == cpus[end-1]+1 {
			end++
		}
		part := strconv.Itoa(cpus[i])
		if end-i > 1 {
			part += "-" + strconv.Itoa(cpus[end-1])
		}
		parts = append(parts, part)
		i = end
	}
	return strings.Join(parts, ",")
}
