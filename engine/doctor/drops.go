package doctor

import "sluice/engine/api"

// advice is the fix for a drop counter that is not 0. Reasons that only depend on what clients send
// have none.
var advice = map[string]struct {
	severity Severity
	fix      string
}{
	"no_neighbour":   {Warning, "see the findings about neighbours; a few at the start are normal"},
	"no_route":       {Problem, "see the findings about routes"},
	"no_backend":     {Warning, "see `sluice list`: all backends of a service were down or drained"},
	"table_full":     {Problem, "raise [engine] connections and restart, or shorten [timeouts]"},
	"snat_exhausted": {Problem, "give the service more addresses in `source`: each has up to 64512 ports per backend"},
	"tx_full":        {Warning, "a port can't send as fast as packets arrive: check its link speed, its queues and its TX ring (ethtool -G)"},
	"hand_over_full": {Warning, "a worker can't keep up: give ports as many queues as there are workers, or add cores"},
	"port_down":      {Warning, "see `sluice stats` for ports that are not up"},
	"too_big":        {Note, "senders got an ICMP error; see the findings about MTU, and whether ICMP reaches them"},
	"kernel_limit":   {Note, "backends send much that belongs to no connection: `sluice trace` shows what; give them another gateway for it"},
	"kernel_full":    {Note, "likewise, or the CPUs that no worker has are busy"},
	"no_connection":  {Note, "packets of connections that ended or never were; many after a restart are normal"},
	"vlan_stack":     {Note, "Sluice reads one VLAN tag, not two: remove the outer one at the switch"},
	"fragment":       {Note, "fragments carry no ports and are dropped: make senders use smaller packets"},
	"tuple_taken":    {Note, "two services send the same clients to one backend port: give each its own port there, or use fullnat"},
}

// checkDrops checks the daemon's counters since its start.
func checkDrops(b *Box) (all []Finding) {
	if b.Stats == nil {
		return nil
	}
	for _, reason := range api.DropReasons() {
		n := b.Stats.Drops[reason.Name]
		a, known := advice[reason.Name]
		if n > 0 && known {
			all = append(all, found(a.severity, a.fix, "%d packets were dropped as %s: %s", n, reason.Name, reason.Text))
		}
	}
	if n := b.Stats.ToKernelFailed; n > 0 {
		all = append(all, found(Warning, "see the log for to_kernel_failed; without it the kernel had no memory for them",
			"%d packets of backends were lost on their way to the kernel", n))
	}
	if n := b.Stats.PortReusedEarly; n > 0 {
		all = append(all, found(Warning, "give the service more addresses in `source`: each has up to 64512 ports per backend",
			"%d connections of mode fullnat got a port that another to the same backend had less than a minute before (port_reused_early); the backend may refuse their first SYN", n))
	}
	for _, p := range b.Stats.Ports {
		for _, q := range p.Queues {
			all = append(all, checkQueueDrops(p.Name, q)...)
		}
	}
	return all
}

// checkQueueDrops checks the kernel's counters of one socket.
func checkQueueDrops(port string, q api.QueueStats) (all []Finding) {
	for _, c := range []struct {
		n         uint64
		what, fix string
	}{
		{q.KernelRxRingFull, "because the worker did not take them in time (rx_ring_full)", "the worker is too slow: see its busy share in `sluice stats`, and other processes on its CPU; add queues and cores"},
		{q.KernelFillRingEmpty, "because there was no free frame (fill_empty)", "frames wait to be sent: see tx_full, and whether a port is down or slow"},
		{q.KernelRxDropped, "because they are larger than a frame", "lower the sender's MTU, and turn off LRO and rx-gro-hw on the port"},
		{q.KernelTxInvalid, "on the way out because the kernel refused their descriptor", "report this: it should not happen"},
	} {
		if c.n > 0 {
			all = append(all, found(Warning, c.fix, "%d packets were lost at port %s queue %d %s", c.n, port, q.Queue, c.what))
		}
	}
	return all
}
