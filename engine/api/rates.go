package api

import "time"

// Rate is traffic per second, with ipvsadm's names. In is from clients, out is to clients.
type Rate struct {
	CPS    float64 `json:"cps"` // new connections
	InPPS  float64 `json:"in_pps"`
	OutPPS float64 `json:"out_pps"`
	InBPS  float64 `json:"in_bps"` // bytes, not bits, as in ipvsadm
	OutBPS float64 `json:"out_bps"`
}

// Rated identifies what has a Rate: a service by Service.Key, or with Backend.Endpoint one of its
// backends.
type Rated struct{ Service, Backend string }

// RatesOf returns the traffic per second of services and backends between two answers of List, the
// second elapsed after the first. New ones have a rate of 0, and so do those with decreased
// counters, because the daemon has restarted.
func RatesOf(before, now []Service, elapsed time.Duration) map[Rated]Rate {
	then := make(map[Rated]counts)
	eachCount(before, func(of Rated, c counts) { then[of] = c })
	rates := make(map[Rated]Rate)
	eachCount(now, func(of Rated, c counts) {
		if was, there := then[of]; there {
			rates[of] = Rate{
				PerSecond(was[0], c[0], elapsed),
				PerSecond(was[1], c[1], elapsed), PerSecond(was[2], c[2], elapsed),
				PerSecond(was[3], c[3], elapsed), PerSecond(was[4], c[4], elapsed),
			}
		} else {
			rates[of] = Rate{}
		}
	})
	return rates
}

// Growth returns by how much a counter has grown; 0 if it has decreased, because it began again or
// was read at another time than those beside it.
func Growth(before, now uint64) uint64 { return max(before, now) - before }

// PerSecond returns the growth of a counter per second; 0 if it decreased.
func PerSecond(before, now uint64, elapsed time.Duration) float64 {
	if now < before || elapsed <= 0 {
		return 0
	}
	return float64(now-before) / elapsed.Seconds()
}

// counts are the counters in the order of Rate's fields.
type counts [5]uint64

func eachCount(services []Service, do func(Rated, counts)) {
	for _, s := range services {
		key := s.Key()
		do(Rated{Service: key}, counts{s.Connections, s.Packets, s.PacketsOut, s.Bytes, s.BytesOut})
		for _, b := range s.Backends {
			do(Rated{key, b.Endpoint()}, counts{b.Connections, b.Packets, b.PacketsOut, b.Bytes, b.BytesOut})
		}
	}
}
