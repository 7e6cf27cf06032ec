package metrics

import (
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/engine/api"
)

// series is where the values of one scrape go.
type series chan<- prometheus.Metric

func (out series) put(f *Family, value float64, labels ...string) {
	// MustNewConstMetric panics on a wrong number of labels; tests cover every family.
	out <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

func (out series) count(f *Family, n uint64, labels ...string) { out.put(f, float64(n), labels...) }

func (out series) flag(f *Family, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	out.put(f, value, labels...)
}

// directions emits a counter for both directions.
func (out series) directions(f *Family, in, outgoing uint64, labels ...string) {
	out.count(f, in, append(labels, "in")...)
	out.count(f, outgoing, append(labels, "out")...)
}

func (s *snapshot) put(out series, backends bool) {
	s.putDaemon(out)
	s.putConfig(out)
	for i := range s.services {
		s.putService(out, &s.services[i], backends)
	}
	for i := range s.stats.Workers {
		s.putWorker(out, i)
	}
	for i := range s.stats.Ports {
		putPort(out, &s.stats.Ports[i])
	}
}

func (s *snapshot) putDaemon(out series) {
	st := &s.stats
	out.put(buildInfo, 1, st.Version, runtime.Version())
	out.put(startTime, seconds(s.at)-st.UptimeS)
	out.count(received, st.Rx)
	out.count(forwarded, st.Forwarded)
	out.count(replied, st.Replied)
	out.count(lostInCrash, st.LostInCrash)
	out.count(toKernel, st.ToKernel)
	out.put(waiting, float64(st.Waiting))
	out.count(kernelLost, st.ToKernelFailed)
	out.count(originated, st.Originated)
	out.count(untracked, st.Untracked)
	out.count(adopted, st.Adopted)
	out.count(displaced, st.Displaced)
	out.count(idleReset, st.IdleReset)
	out.count(portReused, st.PortReusedEarly)
	for reason, n := range st.Drops {
		out.count(drops, n, reason)
	}
	out.count(connections, st.Tables.ConnectionsV4, "ipv4")
	out.count(connections, st.Tables.ConnectionsV6, "ipv6")
	out.count(capacity, st.Tables.Capacity)
	for owner, n := range map[string]uint64{"free": st.Frames.Free, "fill": st.Frames.Fill, "rx": st.Frames.Rx,
		"tx": st.Frames.Tx, "completion": st.Frames.Completion, "in_flight": st.Frames.InFlight} {
		out.count(frames, n, owner)
	}
	out.count(published, st.TablesPublished)
	for id, n := range s.log.Events {
		out.count(events, n, id)
	}
	out.count(suppressed, s.log.Suppressed)
	out.count(logDropped, s.log.Dropped)
}

func (s *snapshot) putConfig(out series) {
	st := &s.status
	out.flag(reloadOK, st.Reload.OK)
	out.put(reloadTime, seconds(st.Reload.At))
	out.put(generation, float64(st.Config.Generation))
	out.flag(fileDiffers, st.Config.FileDiffers)
	out.flag(pending, st.Pending != nil)
	out.flag(stateKept, st.StateErr == "")
	states := map[string]int{api.OverrideWeight: 0, api.OverrideDrain: 0, api.OverrideDisable: 0}
	for _, o := range st.Overrides {
		states[o.State]++
	}
	for state, n := range states {
		out.put(overrides, float64(n), state)
	}
	kinds := map[string]int{}
	for _, kind := range api.AlarmKinds() {
		kinds[kind] = 0
	}
	for _, a := range st.Alarms {
		kinds[a.Kind]++
	}
	for kind, n := range kinds {
		out.put(alarms, float64(n), kind)
	}
}

func (s *snapshot) putService(out series, v *api.Service, backends bool) {
	out.put(serviceInfo, 1, v.Name, v.Address, v.Port.String(), v.Protocol, v.Mode, v.Scheduler)
	out.count(serviceOpened, v.Connections, v.Name)
	out.directions(servicePackets, v.Packets, v.PacketsOut, v.Name)
	out.directions(serviceBytes, v.Bytes, v.BytesOut, v.Name)
	out.count(serviceDenied, v.AccessDenied, v.Name)
	for limit, n := range v.Limited {
		out.count(serviceLimited, n, v.Name, limit)
	}
	out.count(serviceFirst, v.FirstTotal, v.Name)
	out.count(serviceFull, v.FoundFull, v.Name)
	out.count(serviceRefused, v.TableFull, v.Name)
	out.count(serviceUntracked, v.Untracked, v.Name)
	out.count(serviceDisplaced, v.Displaced, v.Name)
	out.count(serviceUnproven, v.Unproven, v.Name)
	var active, inactive uint64
	all := v.Backends
	if v.Sorry != nil && !slices.ContainsFunc(all, func(b api.Backend) bool { return b.Endpoint() == v.Sorry.Endpoint() }) {
		all = append(all[:len(all):len(all)], *v.Sorry)
	}
	for i := range all {
		b := &all[i]
		active += uint64(b.Active)
		inactive += uint64(b.Inactive)
		if backends {
			s.putBackend(out, v.Name, b)
		}
	}
	out.count(serviceConnections, active, v.Name, "active")
	out.count(serviceConnections, inactive, v.Name, "inactive")
	n := api.CountBackends(*v)
	for state, n := range map[string]int{api.StateUp: n.Up, api.StateDown: n.Down, api.StateDrain: n.Drain} {
		out.put(serviceBackends, float64(n), v.Name, state)
	}
	out.put(serviceProtected, float64(n.Protected), v.Name)
	raised := map[string]bool{}
	for _, a := range v.Alarms {
		if !raised[a.Kind] {
			raised[a.Kind] = true
			out.put(serviceAlarm, 1, v.Name, a.Kind)
		}
	}
}

func (s *snapshot) putBackend(out series, service string, b *api.Backend) {
	backend := b.Endpoint()
	out.flag(backendUp, b.State != api.StateDown, service, backend)
	out.flag(backendProtected, b.Protected, service, backend)
	out.put(backendChanged, seconds(s.at)-b.StateSinceS, service, backend)
	out.put(backendWeight, float64(b.Weight), service, backend)
	out.count(backendConnections, uint64(b.Active), service, backend, "active")
	out.count(backendConnections, uint64(b.Inactive), service, backend, "inactive")
	out.count(backendOpened, b.Connections, service, backend)
	out.directions(backendPackets, b.Packets, b.PacketsOut, service, backend)
	out.directions(backendBytes, b.Bytes, b.BytesOut, service, backend)
}

func (s *snapshot) putWorker(out series, i int) {
	w := &s.stats.Workers[i]
	labels := []string{strconv.Itoa(w.Worker), strconv.Itoa(w.CPU)}
	out.flag(workerStuck, w.StuckS > 0, labels...)
	out.count(workerReceived, w.Rx, labels...)
	out.count(workerForwarded, w.Forwarded, labels...)
	out.count(workerDropped, w.Dropped, labels...)
	out.directions(workerHanded, w.HandOversIn, w.HandOversOut, labels...)
	out.count(workerTurns, w.Loops, labels...)
	out.put(workerBusySeconds, w.BusyS, labels...)
	var before api.WorkerStats // counters at the start
	if s.before != nil && i < len(s.before.stats.Workers) {
		before = s.before.stats.Workers[i]
	}
	out.put(workerBusy, api.BusyBetween(before, *w), labels...)
	out.count(workerConnections, w.Connections, labels...)
	out.count(workerFrames, w.FramesFree, labels...)
	buckets, total := map[float64]uint64{}, uint64(0)
	for i, n := range w.GapNs.Counts {
		total += n
		if i < len(api.GapBounds) {
			buckets[float64(api.GapBounds[i])/1e9] = total
		}
	}
	out <- prometheus.MustNewConstHistogram(workerGap.desc, total, float64(w.GapNs.Sum)/1e9, buckets, labels...)
}

func putPort(out series, p *api.PortStats) {
	out.put(portInfo, 1, p.Name, p.IO)
	out.flag(portUp, p.Up, p.Name)
	out.put(portMTU, float64(p.MTU), p.Name)
	for outcome, n := range map[string]uint64{"passed": p.XDP.Passed, "redirected": p.XDP.Redirected, "detoured": p.XDP.Detoured,
		"no_socket": p.XDP.NoSocket, "no_worker": p.XDP.NoWorker} {
		out.count(portXDP, n, p.Name, outcome)
	}
	for i := range p.Queues {
		q := &p.Queues[i]
		queue := strconv.Itoa(q.Queue)
		out.count(queueReceived, q.Rx, p.Name, queue)
		out.count(queueSent, q.Tx, p.Name, queue)
		out.count(queueFull, q.TxRingFull, p.Name, queue)
		out.count(queueWakeups, q.Wakeups, p.Name, queue)
		for event, n := range map[string]uint64{"rx_dropped": q.KernelRxDropped, "rx_invalid": q.KernelRxInvalid, "tx_invalid": q.KernelTxInvalid,
			"rx_ring_full": q.KernelRxRingFull, "fill_ring_empty": q.KernelFillRingEmpty, "tx_ring_empty": q.KernelTxRingEmpty} {
			out.count(queueKernel, n, p.Name, queue, event)
		}
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
