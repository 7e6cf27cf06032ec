package snat

// A pool counts its connections as proven and unproven (package pipeline), the latter by service:
// services that have a backend and a source in common share its ports, and a flood at one of them
// must leave some to the others.

// censusCells is how many cells count the unproven connections. Services with numbers that are
// equal modulo it are counted together.
const censusCells = 8

// whole is the whole as a part of something: counter.Whole.
const whole = 1 << 16

// AddProven changes the number of proven connections.
func (p *Pool) AddProven(by int32) { p.proven += by }

// AddUnproven changes the number of unproven connections of a service.
func (p *Pool) AddUnproven(service uint32, by int32) { p.unproven[service%censusCells] += by }

// Admits reports whether a service may have one more unproven connection, if these may have a part,
// in units of 1/65536, of the ports that proven connections leave. They may always have a port, and
// a 64th of all: when proven connections use nearly all ports, clients that connect at the same
// time would take them from each other. open is as in Free.
func (p *Pool) Admits(m *Memory, open *PortSet, service, part uint32) bool {
	all := int64(p.Free(m, open) + p.inUse)
	left := all - int64(p.proven)
	return int64(p.unproven[service%censusCells]) < max(left*int64(part)/whole, all/64, 1)
}
