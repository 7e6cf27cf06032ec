package conn

import (
	"fmt"

	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// LineSize is the size of a cache line in bytes; tables are arrays of lines.
const LineSize = 64

// maxProbe bounds how many lines a search or insertion visits. At half load the longest run in a
// table of ten million stays well below it; a client that aims many services at one slot meets it
// and only it.
const maxProbe = 128

// Conn is what both families' entries have in common: 24 bytes.
type Conn struct {
	key         uint64 // service (with templateBit), client port, VIP port; 0: the slot is free
	Expires     uint32 // millisecond tick from which on the entry is dead
	Backend     uint32 // backend id
	BackendPort uint16 // template: upper half of the number of connections under it
	State       State
	Flags       Flags
	over        uint8  // of the line, kept in its first slot: entries that passed over this line; 255 sticks
	Source      uint8  // fullnat: id of the local address
	Extra       uint16 // fullnat: local port; template: lower half of the number of connections under it
}

// Flags are facts about an entry.
type Flags uint8

// The flags.
const (
	IsUDP         Flags = 1 << iota // protocol is UDP, else TCP
	NoOutput                        // replies bypass us: tun, dr
	HasTemplate                     // counted in the persistence template of its client
	SeenReply                       // a backend's packet came by
	Translated                      // fullnat: replies come to a local address, and are no business of FindReply's
	countedActive                   // what Loads holds for it: see the pipeline
	ClientReset                     // the backend was evicted, and the client has been reset
	BackendReset                    // likewise the backend
)

// sweepWhenFull bounds the slots that an insertion into a full table looks at for something
// expired.
const sweepWhenFull = 512

// templateBit marks the service half of a template's key; service ids stay below.
const templateBit = 1 << 31

const overSticky = 255

// Service is the id of the connection's service.
func (c *Conn) Service() uint32 { return uint32(c.key>>32) &^ templateBit }

// ClientPort is the client's port; 0 for a template.
func (c *Conn) ClientPort() uint16 { return uint16(c.key >> 16) }

// VIPPort is the port of the service that the client asked for.
func (c *Conn) VIPPort() uint16 { return uint16(c.key) }

// IsTemplate says that the entry binds a client to a backend and is no connection itself.
func (c *Conn) IsTemplate() bool { return c.key>>32&templateBit != 0 }

// Expired says whether the entry is dead at this tick.
func (c *Conn) Expired(nowMs uint32) bool { return int32(c.Expires-nowMs) <= 0 }

// Counted says whether the entry is counted as an active connection of its backend.
func (c *Conn) Counted() bool { return c.Flags&countedActive != 0 }

// SetCounted records whether the entry is counted as active.
func (c *Conn) SetCounted(active bool) {
	if active {
		c.Flags |= countedActive
	} else {
		c.Flags &^= countedActive
	}
}

// Ref counts one connection under the template.
func (c *Conn) Ref() {
	c.setRefs(c.Refs() + 1)
}

// Unref takes one connection from under the template.
func (c *Conn) Unref() {
	if n := c.Refs(); n > 0 {
		c.setRefs(n - 1)
	}
}

// Refs is how many connections are counted under the template. One client can have more of them to
// a service of many ports than 16 bits can count.
func (c *Conn) Refs() uint32 { return uint32(c.BackendPort)<<16 | uint32(c.Extra) }

func (c *Conn) setRefs(n uint32) { c.BackendPort, c.Extra = uint16(n>>16), uint16(n) }

// Proto is the connection's IP protocol number.
func (c *Conn) Proto() uint8 {
	if c.Flags&IsUDP != 0 {
		return 17
	}
	return 6
}

// Key is what a client's packet is looked up by, hash aside.
type Key struct {
	Service             uint32 // below 1<<31, never 0
	ClientPort, VIPPort uint16
}

func (k Key) pack() uint64 {
	return uint64(k.Service)<<32 | uint64(k.ClientPort)<<16 | uint64(k.VIPPort)
}

// PackKey is a Key in one word, for the packet's ports: the client's and, in the lower half, the
// VIP's.
func PackKey(service, ports uint32) uint64 { return uint64(service)<<32 | uint64(ports) }

// UnpackKey is the Key behind a PackKey.
func UnpackKey(word uint64) Key { return Key{uint32(word >> 32), uint16(word >> 16), uint16(word)} }

// TemplateKey is the key of a client's persistence template. VIPPort is 0 for a service of many
// ports.
func TemplateKey(service uint32, vipPort uint16) Key {
	return Key{Service: service | templateBit, VIPPort: vipPort}
}

// Table holds the connections of one address family. See the package comment for its layout.
type Table struct {
	base      pointer // first line
	lines     uint32
	slotShift uint8 // log2 of an entry's size
	lineShift uint8 // log2 of the slots per line
	mark      Home  // home6 in an IPv6 table
	length    int   // entries, templates and expired ones included
	limit     int
	seed      *flow.Seed
	expired   func(t *Table, c *Conn) (keep bool)

	sweepAt   uint32   // next slot that the sweep looks at
	chunkLive []uint32 // entries per chunk of slots, so that the sweep skips what is empty
	mem       []byte   // keeps the memory reachable
}

// Bytes says how much memory a table for so many connections of that family (4 or 6) takes.
func Bytes(family, capacity int) int {
	lines := max(capacity, 1)
	if family == 6 {
		lines *= 2
	}
	return (lines + maxProbe) * LineSize
}

// New lays a table for capacity connections of that family (4 or 6) over mem: Bytes(family,
// capacity) bytes, zeroed, aligned to LineSize, for this table alone. Before an entry is removed
// because its time is over, expired is called; it may prolong the entry's life and return true to
// keep it.
func New(family, capacity int, mem []byte, seed *flow.Seed, expired func(*Table, *Conn) bool) *Table {
	if len(mem) < Bytes(family, capacity) {
		panic(fmt.Sprintf("conn: %d bytes for %d connections, need %d", len(mem), capacity, Bytes(family, capacity)))
	}
	t := &Table{
		base: base(mem), mem: mem, slotShift: 5, lineShift: 1,
		lines: uint32(max(capacity, 1)), limit: capacity, seed: seed, expired: expired,
	}
	if family == 6 {
		t.mark, t.slotShift, t.lineShift = home6, 6, 0
		t.lines *= 2
	}
	t.chunkLive = make([]uint32, t.slots()>>chunkShift+1)
	return t
}

// slots counts the tail behind the last home too: probing runs on into it instead of wrapping
// around.
func (t *Table) slots() uint32 { return (t.lines + maxProbe) << t.lineShift }

// Home is the number of the line that a client's entries live in or near. The zero Home is a line
// like any other.
type Home uint32

// home6 marks homes in an IPv6 table, so that Fetch can tell.
const home6 = 1 << 31

// Home gives the home of a client by flow's hash of its address, port and protocol.
func (t *Table) Home(hash uint64) Home {
	return Home(hash>>32*uint64(t.lines)>>32) | t.mark
}

// Len is the number of entries, templates included.
func (t *Table) Len() int { return t.length }

// Capacity is the number of entries that the table takes.
func (t *Table) Capacity() int { return t.limit }

// Find looks up the connection of a client's packet, from the client's home on. An entry that has
// expired is removed on the way and not found.
func (t *Table) Find(home Home, client packet.Addr, k Key, nowMs uint32) *Conn {
	if t.mark != 0 {
		return t.find6(home, client, k.pack(), nowMs)
	}
	key, client4 := k.pack(), client.V4()
	for line, end := uint32(home), uint32(home)+maxProbe; line < end; line++ {
		// Which of the two entries it is, if any, is a coin toss that the processor could only
		// guess wrong every other time: so the choice is arithmetic, and what is left to guess is
		// nearly always the same.
		second := t.entry4(line<<1 | 1)
		c := t.entry4(line<<1 | isZero(second.key^key|uint64(second.client()^client4)))
		if c.key == key && c.client() == client4 {
			if c.Expired(nowMs) {
				return t.expireUnlessKept(&c.Conn)
			}
			return &c.Conn
		}
		if t.conn(line<<1).over == 0 {
			return nil
		}
	}
	return nil
}

// AtHome4 is Find for an IPv4 entry that lies in its home line, as nearly all do, expired or not.
// Without a result there may be one all the same.
func (t *Table) AtHome4(home Home, client uint32, key uint64) *Conn {
	line := t.line4(home)
	e, second := &line[0], &line[1]
	if second.key^key|uint64(second.client()^client) == 0 { // no branch: see Find
		e = second
	}
	if e.key == key && e.client() == client {
		return &e.Conn
	}
	return nil
}

// AtHome6 is AtHome4 for IPv6.
func (t *Table) AtHome6(home Home, client packet.Addr, key uint64) *Conn {
	c := t.entry6(uint32(home &^ home6))
	if c.key^key|(c.client[1]^client.Lo)|(c.client[0]^client.Hi) != 0 {
		return nil
	}
	return &c.Conn
}

// ReplyAtHome4 is FindReply for an entry that lies in its home line, expired or not: from the
// backend, over TCP or UDP, to the client that the backend knows, which is the real one. ports is
// the backend's port and, in the lower half, the client's. Without a result there may be one all
// the same. The protocol is the caller's to compare.
func (t *Table) ReplyAtHome4(home Home, backend, client, ports uint32) *Conn {
	ends := uint64(backend)<<32 | uint64(client)
	line := t.line4(home)
	c, second := &line[0], &line[1]
	if second.ends^ends|uint64(second.replyPorts()^ports) == 0 {
		c = second
	}
	if c.ends^ends|uint64(c.replyPorts()^ports) != 0 || !c.plain() {
		return nil
	}
	return &c.Conn
}

// ReplyAtHome6 is ReplyAtHome4 for IPv6.
func (t *Table) ReplyAtHome6(home Home, backend, client packet.Addr, ports uint32) *Conn {
	c := t.entry6(uint32(home &^ home6))
	if c.client[1] != client.Lo || c.client[0] != client.Hi || c.backend[1] != backend.Lo || c.backend[0] != backend.Hi ||
		c.replyPorts() != ports || !c.plain() {
		return nil
	}
	return &c.Conn
}

// TranslatedAt4 gives the entry in a slot if it is a fullnat connection to that backend. ports is
// the backend's port and, in the lower half, the local one. Of which source that is, and the
// protocol, are the caller's to compare.
func (t *Table) TranslatedAt4(slot, backend, ports uint32) *Conn {
	e := t.entry4(slot)
	if uint32(e.ends>>32) != backend || !e.IsTranslated(ports) {
		return nil
	}
	return &e.Conn
}

// TranslatedAt6 is TranslatedAt4 for IPv6.
func (t *Table) TranslatedAt6(slot uint32, backend packet.Addr, ports uint32) *Conn {
	e := t.entry6(slot)
	if e.backend[1] != backend.Lo || e.backend[0] != backend.Hi || !e.IsTranslated(ports) {
		return nil
	}
	return &e.Conn
}

// IsTranslated says that the entry is a fullnat connection: to the port of its backend in the upper
// half of ports, from the local one in the lower.
func (c *Conn) IsTranslated(ports uint32) bool {
	return c.Flags&Translated != 0 && uint32(c.BackendPort)<<16|uint32(c.Extra) == ports
}

// replyPorts is the backend's and, in the lower half, the client's port.
func (c *Conn) replyPorts() uint32 { return uint32(c.BackendPort)<<16 | uint32(c.ClientPort()) }

// plain says that the entry is a connection whose replies come through us, from its backend to its
// client.
func (c *Conn) plain() bool {
	return c.key != 0 && !c.IsTemplate() && c.Flags&(NoOutput|Translated) == 0
}

// isZero is 1 if x is 0, else 0, without a branch.
func isZero(x uint64) uint32 { return uint32((x|-x)>>63) ^ 1 }

func (t *Table) find6(home Home, client packet.Addr, key uint64, nowMs uint32) *Conn {
	line := uint32(home &^ home6)
	for end := line + maxProbe; line < end; line++ {
		c := t.entry6(line)
		if c.key == key && c.client[1] == client.Lo && c.client[0] == client.Hi {
			if c.Expired(nowMs) {
				return t.expireUnlessKept(&c.Conn)
			}
			return &c.Conn
		}
		if c.over == 0 {
			return nil
		}
	}
	return nil
}

// expireUnlessKept removes an expired entry, or gives it if its owner keeps it.
func (t *Table) expireUnlessKept(c *Conn) *Conn {
	if t.expire(c) {
		return c
	}
	return nil
}

// FindReply looks up the connection of a backend's packet: from backend and port to client and
// port, whose home is the same as for Find. Those of fullnat are not found: the backend knows a
// local address and port as its client, and who gave out the port knows whose it is.
func (t *Table) FindReply(home Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, udp bool, nowMs uint32) *Conn {
	var flags Flags
	if udp {
		flags = IsUDP
	}
	line := uint32(home &^ home6)
	for end := line + maxProbe; line < end; line++ {
		if c := t.replyIn(line, client, clientPort, backend, port, flags); c != nil {
			if c.Expired(nowMs) && !t.expire(c) {
				return nil
			}
			return c
		}
		if t.conn(line<<t.lineShift).over == 0 {
			return nil
		}
	}
	return nil
}

// replyIn is FindReply in one line.
func (t *Table) replyIn(line uint32, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, flags Flags) *Conn {
	is := func(c *Conn) bool {
		return c.BackendPort == port && c.ClientPort() == clientPort && c.Flags&(IsUDP|NoOutput|Translated) == flags &&
			c.key != 0 && !c.IsTemplate()
	}
	if t.mark != 0 {
		e := t.entry6(line)
		if e.client == [2]uint64{client.Hi, client.Lo} && e.backend == [2]uint64{backend.Hi, backend.Lo} && is(&e.Conn) {
			return &e.Conn
		}
		return nil
	}
	ends := ends4(client, backend)
	for slot := line << 1; slot < (line+1)<<1; slot++ {
		if e := t.entry4(slot); e.ends == ends && is(&e.Conn) {
			return &e.Conn
		}
	}
	return nil
}

// ends4 packs the addresses of an entry4.
func ends4(client, backend packet.Addr) uint64 { return uint64(backend.V4())<<32 | uint64(client.V4()) }

// Insert adds an entry and returns it for the caller to fill in: backend, port, state, expiry. It
// returns nil when the table is at its limit or has no free slot near the home. The caller made
// sure by Find that there is no entry with this key. backend is compared by FindReply only. The
// entry may be used until the next call that inserts or removes.
func (t *Table) Insert(home Home, client packet.Addr, k Key, backend packet.Addr, flags Flags, nowMs uint32) *Conn {
	if t.length >= t.limit && t.Sweep(nowMs, sweepWhenFull) == 0 {
		return nil
	}
	line := uint32(home &^ home6)
	slot, ok := t.freeSlot(line, nowMs)
	if !ok {
		return nil
	}
	if t.mark != 0 {
		return t.InsertAt6(home, slot, client, k.pack(), backend, flags)
	}
	return t.InsertAt4(home, slot, client.V4(), k.pack(), backend.V4(), flags)
}

// insertAt makes a free slot an entry's, whose home is that line.
func (t *Table) insertAt(home, slot uint32, key uint64, flags Flags) *Conn {
	t.addOver(home, slot>>t.lineShift, 1)
	c := t.conn(slot) // field by field: a whole one would be made elsewhere and copied
	c.key, c.Flags = key, flags
	c.Expires, c.Backend, c.BackendPort, c.State, c.Source, c.Extra = 0, 0, 0, 0, 0, 0
	t.length++
	t.chunkLive[slot>>chunkShift]++
	return c
}

// freeSlot finds a slot in the first line from home on that has one that is free or, failing that,
// one whose entry has expired.
func (t *Table) freeSlot(home, nowMs uint32) (slot uint32, ok bool) {
	for line, end := home, home+maxProbe; line < end; line++ {
		slot = line << t.lineShift
		if t.mark == 0 { // which of the line's two slots is free is a coin toss, as in Find
			slot |= 1 ^ isZero(t.entry4(slot).key)
		}
		if t.conn(slot).key == 0 {
			return slot, true
		}
		for slot = line << t.lineShift; slot < (line+1)<<t.lineShift; slot++ {
			if c := t.conn(slot); c.Expired(nowMs) && !t.expire(c) {
				return slot, true
			}
		}
	}
	return 0, false
}

// passOver raises or lowers the over count of the lines from home up to the entry's own line.
func (t *Table) addOver(home, line uint32, by int) {
	for ; home < line; home++ {
		if first := t.conn(home << t.lineShift); first.over != overSticky {
			first.over = uint8(int(first.over) + by)
		}
	}
}

// Remove takes an entry out. The caller must not use it afterwards.
func (t *Table) Remove(c *Conn) {
	slot := t.slotOf(c)
	if line := slot >> t.lineShift; line > 0 && t.conn((line-1)<<t.lineShift).over > 0 { // else it is at home
		home := t.Home(t.seed.Hash(t.Client(c), c.ClientPort(), c.Proto()))
		t.addOver(uint32(home&^home6), line, -1)
	}
	over := c.over
	*c = Conn{over: over}
	t.length--
	t.chunkLive[slot>>chunkShift]--
}

// expire removes an entry whose time is over, unless the owner keeps it, which it reports.
func (t *Table) expire(c *Conn) (kept bool) {
	if t.expired(t, c) {
		return true
	}
	t.Remove(c)
	return false
}

// Client gives the client's address.
func (t *Table) Client(c *Conn) packet.Addr {
	if t.mark != 0 {
		e := t.entry6(t.slotOf(c))
		return packet.Addr{Hi: e.client[0], Lo: e.client[1]}
	}
	return packet.AddrFrom4(t.entry4(t.slotOf(c)).client())
}

// Client4 is Client in an IPv4 table.
func (t *Table) Client4(c *Conn) uint32 { return t.entry4(t.slotOf(c)).client() }

// BackendAddr gives the backend's address as it was inserted.
func (t *Table) BackendAddr(c *Conn) packet.Addr {
	if t.mark != 0 {
		e := t.entry6(t.slotOf(c))
		return packet.Addr{Hi: e.backend[0], Lo: e.backend[1]}
	}
	return packet.AddrFrom4(uint32(t.entry4(t.slotOf(c)).ends >> 32))
}

// HomeAt gives the line of a slot as a home, for Fetch.
func (t *Table) HomeAt(slot uint32) Home { return Home(slot>>t.lineShift) | t.mark }

// Slot is where the entry lies, until it is removed: what At takes.
func (t *Table) Slot(c *Conn) uint32 { return t.slotOf(c) }

// At gives the entry that lies in a slot of this table.
func (t *Table) At(slot uint32) *Conn { return t.conn(slot) }
