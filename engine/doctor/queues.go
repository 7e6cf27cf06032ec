package doctor

import "fmt"

// checkQueues compares queues and workers. Each worker should have a queue of each port. A worker
// without one gets its packets from others.
func checkQueues(b *Box) (all []Finding) {
	workers := len(b.cores())
	for _, l := range b.ports() {
		queues := len(b.queuesOf(l))
		if l.RxQueues != l.TxQueues && l.RxQueues > 0 && l.TxQueues > 0 && l.TxQueues < l.RxQueues {
			all = append(all, found(Problem, fmt.Sprintf("ethtool -L %s combined %d (or rx %d tx %d; or name in `queues` those below %d)", l.Name, l.TxQueues, l.TxQueues, l.TxQueues, l.TxQueues),
				"port %s has %d RX queues and %d TX queues: AF_XDP needs both of each", l.Name, l.RxQueues, l.TxQueues))
		}
		switch {
		case queues == 0 || workers == 0:
		case queues < workers:
			all = append(all, found(Warning, fmt.Sprintf("ethtool -L %s combined %d (if the card can; or fewer CPUs in [engine] cores)", l.Name, workers),
				"port %s has %d queue(s) for %d workers: %d of them get all packets over rings from the others", l.Name, queues, workers, workers-queues))
		case queues%workers != 0:
			all = append(all, found(Note, fmt.Sprintf("ethtool -L %s combined %d", l.Name, queues/workers*workers),
				"port %s has %d queues for %d workers: some have one queue more than others", l.Name, queues, workers))
		}
	}
	return all
}
