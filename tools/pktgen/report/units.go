package report

import (
	"fmt"
	"strconv"
	"time"
)

// rate formats frames per second.
func rate(pps float64) string {
	switch {
	case pps >= 1e6:
		return fmt.Sprintf("%.3f Mpps", pps/1e6)
	case pps >= 1e3:
		return fmt.Sprintf("%.2f kpps", pps/1e3)
	}
	return fmt.Sprintf("%.4g pps", pps)
}

// nanoseconds formats a latency.
func nanoseconds(ns int64) string {
	switch {
	case ns >= int64(time.Second):
		return fmt.Sprintf("%.3f s", float64(ns)/1e9)
	case ns >= int64(time.Millisecond):
		return fmt.Sprintf("%.2f ms", float64(ns)/1e6)
	case ns >= int64(time.Microsecond):
		return fmt.Sprintf("%.1f us", float64(ns)/1e3)
	}
	return fmt.Sprintf("%d ns", ns)
}

// count formats a number with thousands separators.
func count[T uint64 | int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent formats a ratio such that any loss is visible.
func percent(ratio float64) string {
	if ratio > 0 && ratio < 0.0001 {
		return fmt.Sprintf("%.2g %%", ratio*100)
	}
	return fmt.Sprintf("%.2f %%", ratio*100)
}
