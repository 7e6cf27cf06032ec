package conn

import (
	"fmt"

	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// LineSize is the size of a cache line in bytes; tables are arrays of lines.
const LineSize = 64

// maxProbe bounds how many lines a search or an insertion reads from a home on. At half load the
// longest probe in a table of ten million entries stays well below it. A client that opens
// connections to many services from one port, so that they share a home and a second home, reaches
// it, and affects only itself.
const maxProbe = 128

// Conn is the part of an entry that both families have: 24 bytes.
type Conn struct {
	key         uint64 // service (with templateBit), client port, VIP port; 0: the slot is free
	Expires     uint32 // time in milliseconds from which on the entry is expired
	Backend     uint32 // backend id
	BackendPort uint16 // template: upper half of Refs
	State       State
	Flags       Flags
	// over: in the first slot of a line: see the package comment; 255 never changes. In the second:
	// lineBits
	over   uint8
	Source uint8 // fullnat: index of the local address
	// Extra: fullnat: local port; tun, dr: when it was opened, and SYNs repeated to a removed
	// backend; template: lower half of Refs
	Extra uint16
}

// Flags are properties of an entry.
type Flags uint8

// The flags.
const (
	IsUDP       Flags = 1 << iota // protocol is UDP, else TCP
	NoOutput                      // replies bypass Sluice: tun, dr
	HasTemplate                   // counted in the persistence template of its client
	SeenReply                     // the backend has sent a packet
	// Translated: fullnat: replies come to a local address; FindReply does not return it
	Translated
	Proven      // the other side has taken part in the connection, which has not ended since
	ClientGone  // the connection was ended, and the client has sent RST since
	BackendGone // the connection was ended, and the backend has sent RST since
)

// Flags of a connection that was not ended, in the bits of ClientGone and BackendGone.
const (
	ClientFIN = ClientGone  // the client has sent FIN, and the backend has not
	Doubted   = BackendGone // a RST, or a SYN, may be forged, and RST probes ask an end
)

// sweepWhenFull is how many slots an insertion into a full table sweeps.
const sweepWhenFull = 512

// templateBit marks the service half of a template's key; service ids stay below.
const templateBit = 1 << 31

const overSticky = 255

// Service returns the id of the service.
func (c *Conn) Service() uint32 { return uint32(c.key>>32) &^ templateBit }

// ClientPort returns the client's port, 0 for a template.
func (c *Conn) ClientPort() uint16 { return uint16(c.key >> 16) }

// VIPPort returns the port of the service that the client asked for.
func (c *Conn) VIPPort() uint16 { return uint16(c.key) }

// IsTemplate reports whether the entry is a persistence template: it binds a client to a backend
// and is no connection.
func (c *Conn) IsTemplate() bool { return c.key>>32&templateBit != 0 }

// Expired reports whether the entry is expired at this time.
func (c *Conn) Expired(nowMs uint32) bool { return int32(c.Expires-nowMs) <= 0 }

// Counted reports whether the entry is counted as an active connection of its backend.
func (c *Conn) Counted() bool { return c.State.Active() }

// Ref counts one more connection under the template.
func (c *Conn) Ref() {
	c.setRefs(c.Refs() + 1)
}

// Unref counts one connection less under the template.
func (c *Conn) Unref() {
	if n := c.Refs(); n > 0 {
		c.setRefs(n - 1)
	}
}

// Refs returns the number of connections under the template. It has 32 bits: one client can have
// more than 65,535 connections to a service with many ports.
func (c *Conn) Refs() uint32 { return uint32(c.BackendPort)<<16 | uint32(c.Extra) }

func (c *Conn) setRefs(n uint32) { c.BackendPort, c.Extra = uint16(n>>16), uint16(n) }

// Proto returns the IP protocol number.
func (c *Conn) Proto() uint8 {
	if c.Flags&IsUDP != 0 {
		return 17
	}
	return 6
}

// Key is what the connection of a client's packet is found by, with the client's address.
type Key struct {
	Service             uint32 // below 1<<31, never 0
	ClientPort, VIPPort uint16
}

// Key returns what the connection of a client's packet is found by. The entry is no template.
func (c *Conn) Key() Key { return UnpackKey(c.key) }

func (k Key) pack() uint64 {
	return uint64(k.Service)<<32 | uint64(k.ClientPort)<<16 | uint64(k.VIPPort)
}

// PackKey returns a Key in one word. ports is the client's port and, in the lower half, the VIP's:
// the first four bytes of a transport header.
func PackKey(service, ports uint32) uint64 { return uint64(service)<<32 | uint64(ports) }

// UnpackKey is the inverse of PackKey.
func UnpackKey(word uint64) Key { return Key{uint32(word >> 32), uint16(word >> 16), uint16(word)} }

// TemplateKey returns the key of a client's persistence template. vipPort is 0 for a service with
// many ports.
func TemplateKey(service uint32, vipPort uint16) Key {
	return Key{Service: service | templateBit, VIPPort: vipPort}
}

// Table holds the connections of one address family. See the package comment for the layout.
type Table struct {
	base      pointer // first line
	lines     uint32
	slotShift uint8 // log2 of an entry's size
	lineShift uint8 // log2 of the slots per line
	mark      Home  // home6 in an IPv6 table
	length    int   // entries, templates and expired ones included
	share     *counter.Share
	seed      *flow.Seed
	expired   func(t *Table, c *Conn) (keep bool)

	sweepAt     uint32   // next slot that the sweep looks at
	sweptMs     uint32   // time of the last sweep for one insertion
	sweptInVain bool     // it removed nothing
	chunkLive   []uint32 // entries per chunk of slots, so that the sweep skips what is empty
	mem         []byte   // keeps the memory reachable
}

// Bytes returns the size of the memory of a table of a family (4 or 6) that is half full with so
// many entries, in bytes.
func Bytes(family, entries int) int {
	lines := max(entries, 1)
	if family == 6 {
		lines *= 2
	}
	return (lines + maxProbe) * LineSize
}

// New makes a table of a family (4 or 6) that is half full with so many entries in mem:
// Bytes(family, entries) bytes, zeroed, aligned to LineSize, used by this table alone. share says
// how many entries it may have; the two tables of a worker have it in common. expired is called
// before an entry is removed because it has expired; it may extend the entry's life and return true
// to keep it.
func New(family, entries int, mem []byte, share *counter.Share, seed *flow.Seed, expired func(*Table, *Conn) bool) *Table {
	if len(mem) < Bytes(family, entries) {
		panic(fmt.Sprintf("conn: %d bytes for %d connections, need %d", len(mem), entries, Bytes(family, entries)))
	}
	t := &Table{
		base: base(mem), mem: mem, slotShift: 5, lineShift: 1,
		lines: uint32(max(entries, 1)), share: share, seed: seed, expired: expired,
	}
	if family == 6 {
		t.mark, t.slotShift, t.lineShift = home6, 6, 0
		t.lines *= 2
	}
	t.chunkLive = make([]uint32, t.slots()>>chunkShift+1)
	return t
}

// slots returns the number of slots, those of the tail after the last home included: probing
// continues there and does not wrap around.
func (t *Table) slots() uint32 { return (t.lines + maxProbe) << t.lineShift }

// Home is the number of a home line. The zero Home is a line like any other.
type Home uint32

// home6 marks homes in an IPv6 table, for Fetch.
const home6 = 1 << 31

// Home returns the home of a client. hash is the Seed.Hash of its address, port and protocol.
func (t *Table) Home(hash uint64) Home {
	return Home(hash>>32*uint64(t.lines)>>32) | t.mark
}

// IsIPv6 reports whether the table is of family 6.
func (t *Table) IsIPv6() bool { return t.mark != 0 }

// Len returns the number of entries, templates and expired ones included.
func (t *Table) Len() int { return t.length }

// Find returns the connection of a client's packet, nil if there is none. It removes an entry that
// has expired and does not return it.
func (t *Table) Find(home Home, client packet.Addr, k Key, nowMs uint32) *Conn {
	if t.mark != 0 {
		return t.find6(home, client, k.pack(), nowMs)
	}
	key, client4 := k.pack(), client.V4()
	for line, end := uint32(home), uint32(home)+maxProbe; line < end; line++ {
		// A branch on which of the two entries it is would be mispredicted half of the time: so the
		// choice is arithmetic, and the branches that are left nearly always go the same way.
		second := t.entry4(line<<1 | 1)
		c := t.entry4(line<<1 | isZero(second.key^key|uint64(second.client()^client4)))
		if c.key == key && c.client() == client4 {
			if c.Expired(nowMs) {
				return t.expireUnlessKept(&c.Conn)
			}
			return &c.Conn
		}
		if t.conn(line<<1).over == 0 {
			break
		}
	}
	if !t.marked(uint32(home)) {
		return nil
	}
	return t.findSecond(uint32(home), client, key, nowMs)
}

// AtHome4 returns the IPv4 entry with the client's address and key if it is in its home line, as
// nearly all are, expired or not. If it returns nil, Find may still return the entry.
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

// ReplyAtHome4 returns the entry of a reply of mode nat if it is in its home line, expired or not.
// ports is the backend's port and, in the lower half, the client's. The caller compares the
// protocol. If it returns nil, FindReply may still return an entry.
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
	if c.client[1] != client.Lo || c.client[0] != client.Hi || c.backendLo != backend.Lo || c.backendHi != backend.Hi ||
		c.replyPorts() != ports || !c.plain() {
		return nil
	}
	return &c.Conn
}

// TranslatedAt4 returns the entry in a slot if it is a fullnat connection to that backend, else
// nil. ports is the backend's port and, in the lower half, the local port. The caller compares
// source and protocol.
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
	if e.backendLo != backend.Lo || e.backendHi != backend.Hi || !e.IsTranslated(ports) {
		return nil
	}
	return &e.Conn
}

// IsTranslated reports whether the entry is a fullnat connection to the backend port in the upper
// half of ports, from the local port in the lower half.
func (c *Conn) IsTranslated(ports uint32) bool {
	return c.Flags&Translated != 0 && uint32(c.BackendPort)<<16|uint32(c.Extra) == ports
}

// replyPorts returns the backend's port and, in the lower half, the client's.
func (c *Conn) replyPorts() uint32 { return uint32(c.BackendPort)<<16 | uint32(c.ClientPort()) }

// plain reports whether the entry is a connection with replies through Sluice that are addressed to
// the client.
func (c *Conn) plain() bool {
	return c.key != 0 && !c.IsTemplate() && c.Flags&(NoOutput|Translated) == 0
}

// isZero returns 1 if x is 0, else 0, without a branch.
func isZero(x uint64) uint32 { return uint32((x|-x)>>63) ^ 1 }

func (t *Table) find6(home Home, client packet.Addr, key uint64, nowMs uint32) *Conn {
	first := uint32(home &^ home6)
	for line, end := first, first+maxProbe; line < end; line++ {
		c := t.entry6(line)
		if c.key == key && c.client[1] == client.Lo && c.client[0] == client.Hi {
			if c.Expired(nowMs) {
				return t.expireUnlessKept(&c.Conn)
			}
			return &c.Conn
		}
		if c.over == 0 {
			break
		}
	}
	if !t.marked(first) {
		return nil
	}
	return t.findSecond(first, client, key, nowMs)
}

// expireUnlessKept removes an expired entry, or returns it if its owner keeps it.
func (t *Table) expireUnlessKept(c *Conn) *Conn {
	if t.expire(c) {
		return c
	}
	return nil
}

// FindReply returns the connection of a packet from a backend's address and port to a client's, nil
// if there is none. The home is that of the client. It does not return fullnat connections: for the
// backend, a local address and port are the client; the SNAT pool has the slot of those.
//
// It is not inlined into pipeline's fastReply, which would have too few registers for both.
//
//go:noinline
func (t *Table) FindReply(home Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, udp bool, nowMs uint32) *Conn {
	var flags Flags
	if udp {
		flags = IsUDP
	}
	line, ports := uint32(home&^home6), uint32(port)<<16|uint32(clientPort)
	c := t.replyFrom(line, client, backend, ports, flags)
	if c == nil && t.marked(line) {
		c = t.replyFrom(t.secondHome(line, client, clientPort, port), client, backend, ports, flags)
	}
	if c == nil || c.Expired(nowMs) && !t.expire(c) {
		return nil
	}
	return c
}

// replyFrom is FindReply from a home or second home line on, expired entries included. ports is the
// backend's port and, in the lower half, the client's.
func (t *Table) replyFrom(line uint32, client, backend packet.Addr, ports uint32, flags Flags) *Conn {
	if t.mark != 0 {
		return t.replyFrom6(line, client, backend, ports, flags)
	}
	return t.replyFrom4(line, ends4(client, backend), ports, flags)
}

func (t *Table) replyFrom4(line uint32, ends uint64, ports uint32, flags Flags) *Conn {
	for end := line + maxProbe; line < end; line++ {
		l := t.line4(Home(line))
		if e := &l[0]; e.ends == ends && e.isReply(ports, flags) {
			return &e.Conn
		}
		if e := &l[1]; e.ends == ends && e.isReply(ports, flags) {
			return &e.Conn
		}
		if l[0].over == 0 {
			return nil
		}
	}
	return nil
}

func (t *Table) replyFrom6(line uint32, client, backend packet.Addr, ports uint32, flags Flags) *Conn {
	for end := line + maxProbe; line < end; line++ {
		e := t.entry6(line)
		if e.client[1] == client.Lo && e.client[0] == client.Hi && e.backendLo == backend.Lo && e.backendHi == backend.Hi &&
			e.isReply(ports, flags) {
			return &e.Conn
		}
		if e.over == 0 {
			return nil
		}
	}
	return nil
}

// isReply reports whether a reply with these ports and protocol belongs to the entry, if the
// addresses are right.
func (c *Conn) isReply(ports uint32, flags Flags) bool {
	return c.replyPorts() == ports && c.Flags&(IsUDP|NoOutput|Translated) == flags && c.key != 0 && !c.IsTemplate()
}

// ends4 packs the addresses of an entry4.
func ends4(client, backend packet.Addr) uint64 { return uint64(backend.V4())<<32 | uint64(client.V4()) }

// Insert adds an entry and returns it for the caller to fill in: backend id, state, expiry.
// It returns nil if the table's share is used up or no slot near the home is free. The caller has
// made sure with Find that no entry has this key. backend and port are what FindReply compares. The
// result may be used until the next call that inserts or removes.
func (t *Table) Insert(home Home, client packet.Addr, k Key, backend packet.Addr, port uint16, flags Flags, nowMs uint32) *Conn {
	if t.share.Free == 0 && !t.share.Grow() && !t.SweepForOne(nowMs) {
		return nil
	}
	line := uint32(home &^ home6)
	slot, ok := t.freeSlot(line, nowMs)
	if !ok {
		return nil
	}
	var c *Conn
	if slot-line<<t.lineShift >= manyEntries && hasSecondHome(k, port, flags) && t.hasMany(line, slot, client, k.ClientPort) {
		c = t.insertSecond(line, slot, client, k, backend, flags, nowMs)
	} else {
		c = t.put(line, slot, client, k.pack(), backend, flags)
	}
	if c != nil {
		c.BackendPort = port
	}
	return c
}

// SweepForOne makes space in a full table by a sweep, if that removes an entry. A sweep that did
// not is not repeated in the same millisecond: an insertion that fails must not take longer than
// others.
func (t *Table) SweepForOne(nowMs uint32) bool {
	if t.sweptInVain && t.sweptMs == nowMs {
		return false
	}
	t.sweptMs, t.sweptInVain = nowMs, t.Sweep(nowMs, sweepWhenFull) == 0
	return !t.sweptInVain
}

// Connection returns the connection in a slot, nil if there is none.
func (t *Table) Connection(slot uint32) *Conn {
	if c := t.conn(slot); c.key != 0 && !c.IsTemplate() {
		return c
	}
	return nil
}

// hasSecondHome reports whether an entry with the backend's port may go to its second home.
func hasSecondHome(k Key, port uint16, flags Flags) bool {
	return k.Service&templateBit == 0 && (port == k.VIPPort || flags&(NoOutput|Translated) != 0)
}

// put puts an entry with that home or second home line into a free slot.
func (t *Table) put(home, slot uint32, client packet.Addr, key uint64, backend packet.Addr, flags Flags) *Conn {
	if t.mark != 0 {
		return t.InsertAt6(Home(home), slot, client, key, backend, flags)
	}
	return t.InsertAt4(Home(home), slot, client.V4(), key, backend.V4(), flags)
}

// insertAt puts an entry with that home line into a free slot.
func (t *Table) insertAt(home, slot uint32, key uint64, flags Flags) *Conn {
	t.addOver(home, slot>>t.lineShift, 1)
	// field by field: the compiler would build a whole Conn on the stack and copy it
	c := t.conn(slot)
	c.key, c.Flags = key, flags
	c.Expires, c.Backend, c.BackendPort, c.State, c.Source, c.Extra = 0, 0, 0, 0, 0, 0
	t.length++
	if t.share.Free--; t.share.Free == 0 {
		t.share.Grow() // for the next one: see InsertSlot4
	}
	t.chunkLive[slot>>chunkShift]++
	return c
}

// freeSlot returns a slot in the first line from home on that has one that is free or, failing
// that, an expired entry, which it removes.
func (t *Table) freeSlot(home, nowMs uint32) (slot uint32, ok bool) {
	for line, end := home, home+maxProbe; line < end; line++ {
		slot = line << t.lineShift
		if t.mark == 0 { // no branch on which of the two slots is free: see Find
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

// addOver adds by to the over count of the lines from home up to the entry's own line.
func (t *Table) addOver(home, line uint32, by int) {
	for ; home < line; home++ {
		if first := t.conn(home << t.lineShift); first.over != overSticky {
			first.over = uint8(int(first.over) + by)
		}
	}
}

// Remove removes an entry. The caller must not use it afterwards.
func (t *Table) Remove(c *Conn) {
	slot := t.slotOf(c)
	line := slot >> t.lineShift
	switch {
	case *t.lineBits(line)&secondBit(slot) != 0:
		t.removeSecond(c, slot)
	case line > 0 && t.conn((line-1)<<t.lineShift).over > 0: // else it is in its home
		home := t.Home(t.seed.Hash(t.Client(c), c.ClientPort(), c.Proto()))
		t.addOver(uint32(home&^home6), line, -1)
	}
	over := c.over
	*c = Conn{over: over}
	t.length--
	t.share.Free++
	t.chunkLive[slot>>chunkShift]--
}

// expire removes an expired entry unless the owner keeps it, and reports whether it was kept.
func (t *Table) expire(c *Conn) (kept bool) {
	if c.isMarker() {
		c.Expires += farMs
		return true
	}
	if t.expired(t, c) {
		return true
	}
	t.Remove(c)
	return false
}

// Client returns the client's address.
func (t *Table) Client(c *Conn) packet.Addr {
	if t.mark != 0 {
		e := t.entry6(t.slotOf(c))
		return packet.Addr{Hi: e.client[0], Lo: e.client[1]}
	}
	return packet.AddrFrom4(t.entry4(t.slotOf(c)).client())
}

// Client4 is Client in an IPv4 table.
func (t *Table) Client4(c *Conn) uint32 { return t.entry4(t.slotOf(c)).client() }

// BackendAddr returns the backend's address as it was inserted.
func (t *Table) BackendAddr(c *Conn) packet.Addr {
	if t.mark != 0 {
		e := t.entry6(t.slotOf(c))
		return packet.Addr{Hi: e.backendHi, Lo: e.backendLo}
	}
	return packet.AddrFrom4(uint32(t.entry4(t.slotOf(c)).ends >> 32))
}

// HomeAt returns the line of a slot as a Home, for Fetch.
func (t *Table) HomeAt(slot uint32) Home { return Home(slot>>t.lineShift) | t.mark }

// Has reports whether the entry is in this table.
func (t *Table) Has(c *Conn) bool { return t.has(c) }

// Slot returns the slot of an entry, for At. It does not change until the entry is removed.
func (t *Table) Slot(c *Conn) uint32 { return t.slotOf(c) }

// At returns the entry in a slot of this table.
func (t *Table) At(slot uint32) *Conn { return t.conn(slot) }
