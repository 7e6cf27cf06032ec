package conn

import "sluice/pipeline/packet"

// A client port, here, is a client's address, port and protocol: what a home depends on. One with
// connections to many ports of a service would fill the lines after its home, for itself and for
// all that have their home there. So beyond a few entries, further ones go to a second home, which
// depends on the VIP port too and is elsewhere for each of them.
//
// A packet from a backend has the backend's port instead of the VIP port. So an entry that
// FindReply must find goes to its second home only if the two are equal, as they are in a service
// of many ports with backends that have no port of their own.
//
// Each client port with entries at second homes has a marker at its home, an entry that only counts
// them. The home line counts its markers. That makes a search that was in vain go on at the second
// home; while the count is 0, as it is in nearly all lines, a search ends as if there were no
// second homes. Markers are neither in Len nor in the share, and Scan does not visit them.

// manyEntries is how many entries of its client port an entry must have between its home and the
// first free slot to go to its second home.
const manyEntries = 8

// markerService is in the key of a marker the service, which no service and no template has.
const markerService = 1<<32 - 1

// A byte of each line, lineBits, has the secondBit of its slots, and above the number of markers
// with their home in this line.
const (
	oneMarker = 1 << 2
	markers   = 63 << 2 // the most that fit
)

// isMarker reports whether the entry is a marker.
func (c *Conn) isMarker() bool { return c.key>>32 == markerService }

// markerKey returns the key of the marker of a client port.
func markerKey(port uint16, flags Flags) uint64 {
	return markerService<<32 | uint64(port)<<16 | uint64(flags&IsUDP)
}

// marked reports whether entries with this home line may be at their second homes.
func (t *Table) marked(line uint32) bool { return *t.lineBits(line) >= oneMarker }

// secondHome returns the line that is the second home of an entry with the home line home.
func (t *Table) secondHome(home uint32, client packet.Addr, clientPort, vipPort uint16) uint32 {
	client.Hi ^= uint64(home)<<16 | uint64(clientPort)
	return uint32(t.Home(t.seed.Hash(client, vipPort, 0)) &^ home6)
}

// findSecond is Find at the second home.
//
//go:noinline
func (t *Table) findSecond(home uint32, client packet.Addr, key uint64, nowMs uint32) *Conn {
	k := UnpackKey(key)
	c := t.findKey(t.secondHome(home, client, k.ClientPort, k.VIPPort), client, key)
	if c == nil || c.Expired(nowMs) && !t.expire(c) {
		return nil
	}
	return c
}

// findKey returns the entry with that home or second home line, nil if there is none.
func (t *Table) findKey(line uint32, client packet.Addr, key uint64) *Conn {
	return t.search(line, func(c *Conn) bool { return c.key == key && t.Client(c) == client })
}

// search returns the first entry from a line on that is accepts.
func (t *Table) search(line uint32, is func(*Conn) bool) *Conn {
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

// hasMany reports whether there are manyEntries entries of the client port between its home line
// and a slot. All slots between have entries.
func (t *Table) hasMany(home, slot uint32, client packet.Addr, port uint16) bool {
	n := 0
	for at := home << t.lineShift; at < slot && n < manyEntries; at++ {
		if c := t.conn(at); c.ClientPort() == port && t.Client(c) == client {
			n++
		}
	}
	return n == manyEntries
}

// insertSecond is Insert at the second home. slot is free, for a marker. It returns nil if no slot
// near the second home is free.
func (t *Table) insertSecond(home, slot uint32, client packet.Addr, k Key, backend packet.Addr, flags Flags, nowMs uint32) *Conn {
	marker := t.marker(home, slot, client, k.ClientPort, flags, nowMs)
	if marker == nil {
		return nil
	}
	marker.Ref() // before entries expire, so that it stays
	second := t.secondHome(home, client, k.ClientPort, k.VIPPort)
	slot, ok := t.freeSlot(second, nowMs)
	if !ok {
		t.unrefMarker(home, marker)
		return nil
	}
	*t.lineBits(slot >> t.lineShift) |= secondBit(slot)
	return t.put(second, slot, client, k.pack(), backend, flags)
}

// marker returns the marker of a client port. If there is none, it makes one in a free slot; it
// returns nil if the home line can count no more.
func (t *Table) marker(home, slot uint32, client packet.Addr, port uint16, flags Flags, nowMs uint32) *Conn {
	key := markerKey(port, flags)
	if m := t.findKey(home, client, key); m != nil {
		return m
	}
	bits := t.lineBits(home)
	if *bits >= markers {
		return nil
	}
	*bits += oneMarker
	m := t.put(home, slot, client, key, packet.Addr{}, flags&IsUDP)
	m.Expires = nowMs + farMs // expire renews it
	t.length--
	t.share.Free++
	return m
}

// unrefMarker counts one entry less at second homes, and removes the marker with the last.
func (t *Table) unrefMarker(home uint32, m *Conn) {
	if m.Unref(); m.Refs() > 0 {
		return
	}
	*t.lineBits(home) -= oneMarker
	t.length++
	t.share.Free--
	t.Remove(m)
}

// removeSecond is the part of Remove that an entry at its second home needs, which is in a slot of
// this line.
//
//go:noinline
func (t *Table) removeSecond(c *Conn, slot uint32) {
	client, line := t.Client(c), slot>>t.lineShift
	home := uint32(t.Home(t.seed.Hash(client, c.ClientPort(), c.Proto())) &^ home6)
	*t.lineBits(line) &^= secondBit(slot)
	t.addOver(t.secondHome(home, client, c.ClientPort(), c.VIPPort()), line, -1)
	t.unrefMarker(home, t.findKey(home, client, markerKey(c.ClientPort(), c.Flags)))
}

// secondBit returns the bit that the line of a slot has if the slot's entry is at its second home.
// It is another one for each slot of the line.
func secondBit(slot uint32) uint8 { return 1 << (slot & 1) }
