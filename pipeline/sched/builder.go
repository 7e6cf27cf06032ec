package sched

import "encoding/binary"

// Builder makes schedulers, and lets services with equal backends use one Maglev table, which takes
// 131 kB and a millisecond or two. It retains tables from one configuration to the next: weight 0
// and health do not change a table, so neither a drain nor a failing backend rebuilds one. It
// belongs to one goroutine.
type Builder struct {
	k0, k1 uint64
	tables map[string]*shared
}

// shared is a retained table.
type shared struct {
	table *maglev
	used  bool // since the last Sweep
}

// NewBuilder makes a Builder for mh schedulers that hash with hashKey. Hosts that replace each
// other need the same one.
func NewBuilder(hashKey [16]byte) *Builder {
	return &Builder{
		k0:     binary.LittleEndian.Uint64(hashKey[:8]),
		k1:     binary.LittleEndian.Uint64(hashKey[8:]),
		tables: make(map[string]*shared),
	}
}

// Sweep removes the tables that New has not used since the last Sweep. Call it after all services
// of a configuration have been made; schedulers keep their tables.
func (b *Builder) Sweep() {
	for name, s := range b.tables {
		if !s.used {
			delete(b.tables, name)
		}
		s.used = false
	}
}

// Clone returns a Builder with the same tables. Changes of either do not affect the other.
func (b *Builder) Clone() *Builder {
	c := &Builder{k0: b.k0, k1: b.k1, tables: make(map[string]*shared, len(b.tables))}
	for name, s := range b.tables {
		c.tables[name] = &shared{s.table, s.used}
	}
	return c
}

// Len returns the number of retained tables.
func (b *Builder) Len() int { return len(b.tables) }

// maglev returns the table of the members, which must be sorted. It builds the table if there is
// none yet.
func (b *Builder) maglev(members []member) *maglev {
	name := tableName(members)
	s := b.tables[name]
	if s == nil {
		s = &shared{table: newMaglev(b.k0, b.k1, members)}
		b.tables[name] = s
	}
	s.used = true
	return s.table
}

// tableName returns a string that is equal for members with the same table: same backends, same
// proportions of weights.
func tableName(members []member) string {
	divisor := uint32(0)
	for i := range members {
		divisor = gcd(members[i].weight, divisor)
	}
	name := make([]byte, 0, len(members)*(18+2))
	for i := range members {
		id := identity(members[i].key)
		name = append(name, id[:]...)
		name = binary.BigEndian.AppendUint16(name, uint16(members[i].weight/divisor))
	}
	return string(name)
}
