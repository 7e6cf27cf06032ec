package conn

import "sluice/pipeline/packet"

// insertLines is how many lines InsertSlot4 and InsertSlot6 read.
const insertLines = 4

// InsertSlot4 returns a slot for a client's new IPv4 connection: one pass instead of Find,
// FindReply and Insert. ok is false if the table's share is used up, if an entry nearby has the
// same client address and port or must be removed first, or if no slot nearby is free; then those
// three must be used. It changes nothing, because the caller may do without the slot.
func (t *Table) InsertSlot4(home Home, client uint32, port uint16, nowMs uint32) (slot uint32, ok bool) {
	if t.share.Free == 0 {
		return 0, false
	}
	for line, end := home, home+insertLines; line < end; line++ {
		e := t.line4(line)
		if e[0].isFrom(client, port) || e[1].isFrom(client, port) {
			return 0, false
		}
		if !ok {
			second := 1 ^ isZero(e[0].key) // no branch: see Find
			switch {
			case e[second&1].key == 0:
				slot, ok = uint32(line)<<1|second, true
			case e[0].Expired(nowMs) || e[1].Expired(nowMs):
				return 0, false
			}
		}
		if ok && e[0].over == 0 {
			return slot, true
		}
	}
	return 0, false
}

func (e *entry4) isFrom(client uint32, port uint16) bool {
	return (e.client()^client)|uint32(e.ClientPort()^port) == 0
}

// InsertSlot6 is InsertSlot4 for IPv6.
func (t *Table) InsertSlot6(home Home, client packet.Addr, port uint16, nowMs uint32) (slot uint32, ok bool) {
	if t.share.Free == 0 {
		return 0, false
	}
	line := uint32(home &^ home6)
	for end := line + insertLines; line < end; line++ {
		e := t.entry6(line)
		if (e.client[1]^client.Lo)|(e.client[0]^client.Hi)|uint64(e.ClientPort()^port) == 0 {
			return 0, false
		}
		if !ok {
			switch {
			case e.key == 0:
				slot, ok = line, true
			case e.Expired(nowMs):
				return 0, false
			}
		}
		if ok && e.over == 0 {
			return slot, true
		}
	}
	return 0, false
}

// InsertAt4 is Insert into the slot that InsertSlot4 has just returned.
func (t *Table) InsertAt4(home Home, slot uint32, client uint32, key uint64, backend uint32, flags Flags) *Conn {
	c := t.insertAt(uint32(home), slot, key, flags)
	t.entry4(slot).ends = uint64(backend)<<32 | uint64(client)
	return c
}

// InsertAt6 is Insert into the slot that InsertSlot6 has just returned.
func (t *Table) InsertAt6(home Home, slot uint32, client packet.Addr, key uint64, backend packet.Addr, flags Flags) *Conn {
	c := t.insertAt(uint32(home&^home6), slot, key, flags)
	e := t.entry6(slot)
	e.client, e.backendHi, e.backendLo = [2]uint64{client.Hi, client.Lo}, backend.Hi, backend.Lo
	return c
}
