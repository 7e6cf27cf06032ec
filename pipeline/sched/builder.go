package sched

import "encoding/binary"

// Builder makes schedulers and lets services with equal pools share one Maglev table, which takes
// 131 kB and a millisecond or two. It remembers tables from one configuration to the next: weight 0
// and health don't change a table, so a drain or a backend that goes down costs no rebuilding. It
// belongs to one goroutine.
type Builder struct {
	k0, k1 uint64
	tables map[string]*shared
}

// shared is a remembered table.
type shared struct {
	table *maglev
	used  bool // since the last Sweep
}

// NewBuilder makes a Builder whose mh schedulers hash with hashKey. Boxes that stand in for each
// other need the same one.
func NewBuilder(hashKey [16]byte) *Builder {
	return &Builder{
		k0:     binary.LittleEndian.Uint64(hashKey[:8]),
		k1:     binary.LittleEndian.Uint64(hashKey[8:]),
		tables: make(map[string]*shared),
	}
}

// Sweep forgets the tables that no New used since the Sweep before. Call it when all services of a
// configuration are made; schedulers keep their tables.
func (b *Builder) Sweep() {
	for name, s := range b.tables {
		if !s.used {
			delete(b.tables, name)
		}
		s.used = false
	}
}

// Clone returns a Builder with the same tables. What is done to either does not change the other.
func (b *Builder) Clone() *Builder {
	c := &Builder{k0: b.k0, k1: b.k1, tables: make(map[string]*shared, len(b.tables))}
	for name, s := range b.tables {
		c.tables[name] = &shared{s.table, s.used}
	}
	return c
}

// Len is the number of tables that the builder remembers.
func (b *Builder) Len() int { return len(b.tables) }

// maglev returns the table of a pool, which must be sorted, and builds it if need be.
func (b *Builder) maglev(pool []member) *maglev {
	name := poolName(pool)
	s := b.tables[name]
	if s == nil {
		s = &shared{table: newMaglev(b.k0, b.k1, pool)}
		b.tables[name] = s
	}
	s.used = true
	return s.table
}

// poolName is equal for pools that have the same table: same backends, same proportions of weights.
func poolName(pool []member) string {
	divisor := uint32(0)
	for i := range pool {
		divisor = gcd(pool[i].weight, divisor)
	}
	name := make([]byte, 0, len(pool)*(18+2))
	for i := range pool {
		id := identity(pool[i].key)
		name = append(name, id[:]...)
		name = binary.BigEndian.AppendUint16(name, uint16(pool[i].weight/divisor))
	}
	return string(name)
}
