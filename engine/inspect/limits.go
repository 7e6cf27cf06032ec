package inspect

import (
	"fmt"

	"sluice/pipeline/counter"
)

// limits describes which limit a new connection would exceed, and what a full table would do.
func (x *explainer) limits(id uint32) {
	svc := &x.Services[id]
	l, exceeded := x.run.Limit()
	if exceeded {
		text := x.limitText(l, id)
		if svc.Sorry == nil {
			x.problem("limit", "%s: it is dropped as limited", text)
		} else {
			x.problem("limit", "%s: it goes to the sorry server, %s", text, svc.Sorry.Key)
		}
		return
	}
	if x.run.Full {
		x.step("table", "no free entry for the service (sluice status): it takes the place of a connection that is unproven or has ended; "+
			"without one, it goes untracked where a hash names the backend, and is else dropped as table_full")
	}
}

// limitText returns a sentence about a limit that is reached.
func (x *explainer) limitText(l counter.Limit, id uint32) string {
	limits := &x.Tables.Services[id].Limits
	source := x.clientSource(id)
	switch l {
	case counter.LimitConnections:
		return fmt.Sprintf("the service has as many connections as it may ([service.limits] connections = %d)", limits.Connections)
	case counter.LimitNewPerSecond:
		return fmt.Sprintf("the service had as many new connections within a second as it may ([service.limits] new_per_second = %d)", limits.NewPerSecond)
	case counter.LimitSourceConnections:
		return fmt.Sprintf("%s has as many connections to the service as it may ([service.limits] source_connections = %d)", source, limits.SourceConnections)
	case counter.LimitSourceNewPerSecond:
		return fmt.Sprintf("%s had as many new connections within a second as it may ([service.limits] source_new_per_second = %d)", source, limits.SourceNewPerSecond)
	}
	return "all backends that could take it have as many connections as they may (max_connections)"
}

// clientSource returns the source that the client's connections are counted for.
func (x *explainer) clientSource(id uint32) string {
	limits, client := &x.Tables.Services[id].Limits, x.q.From.Addr()
	bits := int(limits.SourceBits6)
	if client.Is4() {
		bits = int(limits.SourceBits4)
	}
	prefix, err := client.Prefix(bits)
	if err != nil || prefix.IsSingleIP() {
		return client.String()
	}
	return prefix.Masked().String()
}

// atMost reports whether a backend has as many connections as it may.
func (x *explainer) atMost(backend uint32) bool {
	load := x.run.Loads.Of(backend)
	return load.Active+load.Inactive >= x.Tables.Backends[backend].MaxConnections || x.Loads.Full(backend)
}
