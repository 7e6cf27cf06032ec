package compare

import (
	"os"
	"strconv"
	"strings"

	"sluice/bench/testbed"
)

// busy has the busy and the total time of the two CPUs in clock ticks, or as portions after since.
type busy struct {
	balancer, ends       float64
	balancerAll, endsAll float64
}

// since returns portions from 0 to 1.
func (b busy) since(before busy) busy {
	share := func(part, all float64) float64 {
		if all <= 0 {
			return 0
		}
		return part / all
	}
	return busy{
		balancer: share(b.balancer-before.balancer, b.balancerAll-before.balancerAll),
		ends:     share(b.ends-before.ends, b.endsAll-before.endsAll),
	}
}

// readBusy reads /proc/stat (proc_stat(5)); zeros if there is none.
func readBusy(cpus testbed.CPUs) (b busy) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return b
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		used, all := ticks(fields[1:])
		switch fields[0] {
		case "cpu" + strconv.Itoa(cpus.Balancer):
			b.balancer, b.balancerAll = used, all
		case "cpu" + strconv.Itoa(cpus.Ends):
			b.ends, b.endsAll = used, all
		}
	}
	return b
}

// ticks returns the sum of all columns, and of all but idle and iowait. guest and guest_nice are
// part of user and nice.
func ticks(columns []string) (used, all float64) {
	const idle, iowait, guest = 3, 4, 8
	for i, text := range columns[:min(len(columns), guest)] {
		n, _ := strconv.ParseFloat(text, 64)
		all += n
		if i != idle && i != iowait {
			used += n
		}
	}
	return used, all
}
