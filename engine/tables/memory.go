package tables

import (
	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// Memory is what a configuration takes besides the frames of the NIC ports, in bytes. The kernel
// gives pages when they are used for the first time.
type Memory struct {
	Connections int64 // the connection tables of all workers
	MH          int64 // tables of scheduler mh: one for each set of backends with their weights
	// fullnat: the ports of each source towards each backend, while none is in use, and while all
	// are
	SNATPools, SNATPoolsMost int64
}

// MemoryOf returns what a configuration takes with that many workers.
func MemoryOf(cfg *conf.Config, workers int) (m Memory) {
	for _, family := range []int{4, 6} {
		m.Connections += int64(workers) * int64(pipeline.TableBytes(family, workers, cfg.Engine.Connections))
	}
	pools := make(map[PoolName]bool)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Scheduler == "mh" {
			m.MH += sched.MHBytes
		}
		for _, b := range s.Servers() {
			if b.Mode != service.FullNAT {
				continue
			}
			for _, source := range s.Source {
				pools[PoolName{source, b.Key, s.Key.Protocol}] = true
			}
		}
	}
	least, most := snat.PoolBytes(workers)
	m.SNATPools, m.SNATPoolsMost = int64(len(pools))*int64(least), int64(len(pools))*int64(most)
	return m
}
