package conn

import "sluice/pipeline/packet"

// Peek is Find without any change to the table: an expired entry stays. It returns a template with
// connections under it even if it has expired, since its owner keeps it. The result must only be
// read.
func (t *Table) Peek(home Home, client packet.Addr, k Key, nowMs uint32) *Conn {
	return t.peek(home, client, k.ClientPort, k.VIPPort, func(c *Conn) bool {
		return c.key == k.pack() && t.Client(c) == client && (!c.Expired(nowMs) || c.IsTemplate() && c.Refs() > 0)
	})
}

// PeekReply is FindReply without any change to the table.
func (t *Table) PeekReply(home Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, udp bool, nowMs uint32) *Conn {
	var flags Flags
	if udp {
		flags = IsUDP
	}
	ports := uint32(port)<<16 | uint32(clientPort)
	return t.peek(home, client, clientPort, port, func(c *Conn) bool {
		return c.isReply(ports, flags) && t.Client(c) == client && t.BackendAddr(c) == backend && !c.Expired(nowMs)
	})
}

// peek returns the first entry from the home or, if there is none, from the second home on that is
// accepts.
func (t *Table) peek(home Home, client packet.Addr, clientPort, port uint16, is func(*Conn) bool) *Conn {
	line := uint32(home &^ home6)
	c := t.search(line, is)
	if c == nil && t.marked(line) {
		c = t.search(t.secondHome(line, client, clientPort, port), is)
	}
	return c
}

// InsertCopy inserts a copy of an entry of another table. It returns nil if there is no space.
func (t *Table) InsertCopy(home Home, c *Conn, client, backend packet.Addr, nowMs uint32) *Conn {
	mine := t.Insert(home, client, Key{}, backend, 1, 0, nowMs)
	if mine != nil {
		over := mine.over
		*mine = *c
		mine.over = over
	}
	return mine
}
