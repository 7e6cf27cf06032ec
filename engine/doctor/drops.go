package doctor

import (
	"fmt"
	"strings"

	"sluice/engine/api"
)

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
	"fragment":       {Note, "the first fragments of packets are lost, or dropped for another reason: see the others, and the path"},
	"bad_fragment":   {Note, "no sender makes such fragments: `sluice trace` shows where they come from"},
	"fragment_full":  {Warning, "more fragments come before the first ones of their packets than can wait: the path reorders much, or it is a flood"},
	"martian":        {Note, "`sluice trace` shows the sources: forged packets, or a UDP backend that asks services from the port that it serves"},
	"hairpin":        {Note, "backends are clients of their own service: use fullnat for it"},
	"tuple_taken":    {Note, "two services send the same clients to one backend port: give each its own port there, or use fullnat"},
}

// checkDrops checks the daemon's counters: what has risen between the looks counts, and what rose
// before is a note.
func checkDrops(b *Box) (all []Finding) {
	before := b.Before.Stats
	if b.Stats == nil {
		return nil
	}
	if before == nil {
		before = b.Stats
	}
	report := func(severity Severity, before, now uint64, fix, format string, args ...any) {
		text, n := fmt.Sprintf(format, args...), api.Growth(before, now)
		switch {
		case n > 0:
			all = append(all, found(severity, fix, "%d %s, within a second", n, text))
		case now > 0:
			all = append(all, found(Note, "nothing now", "%d %s since the daemon started, none within the last second", now, text))
		}
	}
	for _, reason := range api.DropReasons() {
		if a, known := advice[reason.Name]; known {
			if a.severity == Problem && strings.HasPrefix(a.fix, "see ") && len(b.told) > 0 {
				a.severity = Warning // its cause is the problem
			}
			report(a.severity, before.Drops[reason.Name], b.Stats.Drops[reason.Name], a.fix, "packets were dropped as %s: %s", reason.Name, reason.Text)
		}
	}
	report(Warning, before.ToKernelFailed, b.Stats.ToKernelFailed, "see the log for to_kernel_failed; without it the kernel had no memory for them",
		"packets of backends were lost on their way to the kernel")
	report(Warning, before.PortReusedEarly, b.Stats.PortReusedEarly, "give the service more addresses in `source`: each has up to 64512 ports per backend",
		"connections of mode fullnat got a port that another to the same backend had less than a minute before (port_reused_early), so that the backend may refuse their first SYN")
	for i, p := range b.Stats.Ports {
		var old api.XDPStats
		if i < len(before.Ports) {
			old = before.Ports[i].XDP
		}
		report(Warning, old.NoWorker, p.XDP.NoWorker, "see the log for worker_stuck, and whether other processes use the worker's CPU; a daemon that was killed or stopped does the same",
			"packets were dropped at port %s because the worker of their queue did not run (no_worker)", p.Name)
		for j, q := range p.Queues {
			var old api.QueueStats
			if i < len(before.Ports) && j < len(before.Ports[i].Queues) {
				old = before.Ports[i].Queues[j]
			}
			for _, c := range []struct {
				before, now uint64
				what, fix   string
			}{
				{old.KernelRxRingFull, q.KernelRxRingFull, "because the worker did not take them in time (rx_ring_full)", "the worker is too slow: see its busy share in `sluice stats`, and other processes on its CPU; add queues and cores"},
				{old.KernelFillRingEmpty, q.KernelFillRingEmpty, "because there was no free frame (fill_empty)", "frames wait to be sent: see tx_full, and whether a port is down or slow"},
				{old.KernelRxDropped, q.KernelRxDropped, "because they are larger than a frame", "lower the sender's MTU, and turn off LRO and rx-gro-hw on the port"},
				{old.KernelTxInvalid, q.KernelTxInvalid, "on the way out because the kernel refused their descriptor", "report this: it should not happen"},
			} {
				report(Warning, c.before, c.now, c.fix, "packets were lost at port %s queue %d %s", p.Name, q.Queue, c.what)
			}
		}
	}
	return all
}
