package conn

import "sluice/pipeline/packet"

// Peek is Find without any change to the table: an expired entry stays. It returns a template with
// connections under it even if it has expired, since its owner keeps it. The result must only be
// read.
func (t *Table) Peek(home Home, client packet.Addr, k Key, nowMs uint32) *Conn {
	return t.peek(home, func(c *Conn) bool {
		return c.key == k.pack() && t.Client(c) == client && (!c.Expired(nowMs) || c.IsTemplate() && c.Refs() > 0)
	})
}

// PeekReply is FindReply without any change to the table.
func (t *Table) PeekReply(home Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, udp bool, nowMs uint32) *Conn {
	var flags Flags
	if udp {
		flags = IsUDP
	}
	return t.peek(home, func(c *Conn) bool {
		return c.BackendPort == port && c.ClientPort() == clientPort && c.Flags&(IsUDP|NoOutput|Translated) == flags &&
			!c.IsTemplate() && t.Client(c) == client && t.BackendAddr(c) == backend && !c.Expired(nowMs)
	})
}

// peek returns the first entry from the home on that is accepts.
func (t *Table) peek(home Home, is func(*Conn) bool) *Conn {
	line := uint32(home &^ home6)
	for end := line + maxProbe; line < end; line++ {
		for slot := line << t.lineShift; slot < (line+1)<<t.lineShift; slot++ {
			if c := t.conn(slot); c.key != 0 && is(c) {
				return c
			}
		}
		if t.conn(line<<t.lineShift).over == 0 {
			return nil
		}
	}
	return nil
}

// InsertCopy inserts a copy of an entry of another table. It returns nil if there is no space.
func (t *Table) InsertCopy(home Home, c *Conn, client, backend packet.Addr, nowMs uint32) *Conn {
	mine := t.Insert(home, client, Key{}, backend, 0, nowMs)
	if mine != nil {
		over := mine.over
		*mine = *c
		mine.over = over
	}
	return mine
}
