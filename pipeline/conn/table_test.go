package conn

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

var testSeed = flow.Seed{A: 0x0123456789abcdef, B: 0xfedcba9876543210}

// aligned gives zeroed memory that begins at a cache line.
func aligned(n int) []byte {
	words := make([]byte, n+LineSize)
	for len(words) > n {
		if ok := func() (ok bool) {
			defer func() { ok = recover() == nil }()
			base(words)
			return
		}(); ok {
			break
		}
		words = words[1:]
	}
	return words[:n]
}

func newTable(family, capacity int, expired func(*Table, *Conn) bool) *Table {
	if expired == nil {
		expired = func(*Table, *Conn) bool { return false }
	}
	return New(family, capacity, aligned(Bytes(family, capacity)), counter.NewCapacity(1, capacity).NewShare(), &testSeed, expired)
}

// client is the i-th of the clients that tests use.
func client(family, i int) packet.Addr {
	if family == 4 {
		return packet.AddrFrom4(0x0a000000 + uint32(i))
	}
	return packet.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}
}

func homeOf(t *Table, c packet.Addr, port uint16, proto uint8) Home {
	return t.Home(testSeed.Hash(c, port, proto))
}

func TestInsertFindRemove(t *testing.T) {
	for _, family := range []int{4, 6} {
		tab := newTable(family, 100, nil)
		c, backend := client(family, 1), client(family, 77)
		k := Key{Service: 3, ClientPort: 40000, VIPPort: 80}
		h := homeOf(tab, c, 40000, 6)
		if tab.Find(h, c, k, 0) != nil {
			t.Fatal("found in an empty table")
		}
		e := tab.Insert(h, c, k, backend, 0, 0, 0)
		e.Backend, e.BackendPort, e.Expires = 9, 8080, 1000
		if got := tab.Find(h, c, k, 999); got != e {
			t.Fatalf("v%d: Find gave %p, want %p", family, got, e)
		}
		if got := tab.FindReply(h, c, 40000, backend, 8080, false, 999); got != e {
			t.Fatalf("v%d: FindReply gave %p, want %p", family, got, e)
		}
		for name, got := range map[string]*Conn{
			"other service":  tab.Find(h, c, Key{4, 40000, 80}, 0),
			"other VIP port": tab.Find(h, c, Key{3, 40000, 81}, 0),
			"other client":   tab.Find(h, client(family, 2), k, 0),
			"other backend":  tab.FindReply(h, c, 40000, client(family, 78), 8080, false, 0),
			"other port":     tab.FindReply(h, c, 40000, backend, 8081, false, 0),
			"other protocol": tab.FindReply(h, c, 40000, backend, 8080, true, 0),
		} {
			if got != nil {
				t.Errorf("v%d: found with %s", family, name)
			}
		}
		if tab.Client(e) != c || tab.BackendAddr(e) != backend || e.Service() != 3 || e.ClientPort() != 40000 || e.VIPPort() != 80 {
			t.Errorf("v%d: entry reads back as %v %v %d %d %d", family, tab.Client(e), tab.BackendAddr(e), e.Service(), e.ClientPort(), e.VIPPort())
		}
		if tab.Find(h, c, k, 1000) != nil || tab.Len() != 0 {
			t.Errorf("v%d: expired entry still there", family)
		}
	}
}

func TestFullTableRefusesAndRecovers(t *testing.T) {
	for _, family := range []int{4, 6} {
		const capacity = 3000
		tab := fullTable(t, family, capacity)
		c := client(family, capacity)
		if tab.Insert(homeOf(tab, c, 1, 6), c, Key{1, 1, 80}, packet.Addr{}, 0, 0, 999) != nil {
			t.Fatalf("v%d: a full table took one more", family)
		}
		if tab.Insert(homeOf(tab, c, 1, 6), c, Key{1, 1, 80}, packet.Addr{}, 0, 0, 1000) == nil {
			t.Fatalf("v%d: expired entries gave no room", family)
		}
	}
}

func TestExpiredMayKeep(t *testing.T) {
	tab := newTable(4, 10, func(_ *Table, c *Conn) bool {
		c.Expires += 500
		return c.Backend == 1
	})
	for backend := uint32(1); backend <= 2; backend++ {
		c := client(4, int(backend))
		e := tab.Insert(homeOf(tab, c, 5, 6), c, Key{1, 5, 80}, packet.Addr{}, 0, 0, 0)
		e.Backend, e.Expires = backend, 100
	}
	if n := tab.Sweep(200, tab.SweepSlots()); n != 1 || tab.Len() != 1 {
		t.Errorf("sweep removed %d and left %d, want 1 and 1", n, tab.Len())
	}
	if c := client(4, 1); tab.Find(homeOf(tab, c, 5, 6), c, Key{1, 5, 80}, 300) == nil {
		t.Error("the kept entry is gone")
	}
}

func TestTimeWraps(t *testing.T) {
	c := Conn{Expires: 50}
	if c.Expired(0xffffff00) {
		t.Error("expiry after the wrap counts as past")
	}
	if !c.Expired(51) {
		t.Error("expiry before now doesn't count as past")
	}
}

// TestOneClientManyServices: the entries of one client fill the lines after their home. All are
// found, in whatever order they are removed.
func TestOneClientManyServices(t *testing.T) {
	for _, family := range []int{4, 6} {
		tab := newTable(family, 10000, nil)
		c := client(family, 1)
		h := homeOf(tab, c, 53, 17)
		in := 0
		for s := uint32(1); s <= 1000; s++ {
			if e := tab.Insert(h, c, Key{s, 53, 53}, packet.Addr{}, 0, IsUDP, 0); e != nil {
				e.Expires = 1000
				in++
			}
		}
		if want := maxProbe << tab.lineShift; in != want {
			t.Errorf("v%d: %d entries went in, want the probe bound %d", family, in, want)
		}
		for s := uint32(1); s <= uint32(in); s++ {
			e := tab.Find(h, c, Key{s, 53, 53}, 0)
			if e == nil {
				t.Fatalf("v%d: entry %d lost", family, s)
			}
			if s%3 == 0 {
				tab.Remove(e)
			}
		}
		for s := uint32(1); s <= uint32(in); s++ {
			if got := tab.Find(h, c, Key{s, 53, 53}, 0) != nil; got != (s%3 != 0) {
				t.Fatalf("v%d: entry %d found: %v", family, s, got)
			}
		}
		tab.Sweep(1000, tab.SweepSlots())
		if tab.Len() != 0 {
			t.Errorf("v%d: %d left", family, tab.Len())
		}
		checkLines(t, tab)
	}
}

// checkLines compares what lines and markers count with a new count. An over count must be exact
// unless it sticks.
func checkLines(t *testing.T, tab *Table) {
	t.Helper()
	type port struct {
		home   uint32
		client packet.Addr
		key    uint64 // of the marker
	}
	over, away, markersOf, refs := make(map[uint32]int), make(map[port]uint32), make(map[uint32]uint8), make(map[port]uint32)
	for slot := range tab.slots() {
		c, line := tab.conn(slot), slot>>tab.lineShift
		second := *tab.lineBits(line)&secondBit(slot) != 0
		if c.key == 0 {
			if second {
				t.Fatalf("slot %d is free, and at its second home", slot)
			}
			continue
		}
		client := tab.Client(c)
		home := uint32(homeOf(tab, client, c.ClientPort(), c.Proto()) &^ home6)
		owner := port{home, client, markerKey(c.ClientPort(), c.Flags)}
		switch {
		case second:
			away[owner]++
			home = tab.secondHome(home, client, c.ClientPort(), c.VIPPort())
		case c.isMarker():
			markersOf[home] += oneMarker
			refs[owner] = c.Refs()
		}
		for ; home < line; home++ {
			over[home]++
		}
	}
	for line := range tab.lines + maxProbe {
		if got := int(tab.conn(line << tab.lineShift).over); got != over[line] && got != overSticky {
			t.Fatalf("line %d: over is %d, want %d", line, got, over[line])
		}
		if got := *tab.lineBits(line) &^ (oneMarker - 1); got != markersOf[line] {
			t.Fatalf("line %d: its markers are %d, want %d", line, got/oneMarker, markersOf[line]/oneMarker)
		}
	}
	if !maps.Equal(away, refs) {
		t.Fatalf("at second homes: %v, markers count %v", away, refs)
	}
}

// twin is the slow, obvious table: a map, with a clock that doesn't wrap.
type twin struct {
	entries map[twinKey]*twinEntry
	limit   int
}

type twinKey struct {
	client packet.Addr
	k      Key
}

type twinEntry struct {
	expires uint64
	backend uint32
}

func (w *twin) find(k twinKey, now uint64) *twinEntry {
	if e := w.entries[k]; e != nil {
		if e.expires > now {
			return e
		}
		delete(w.entries, k)
	}
	return nil
}

// Ticks of replay: it begins so long before the clock's wrap, and may leap so far, more often than
// not over the time for which the sweep lets free slots be.
const (
	beforeWrap = 700
	leap       = farMs + farMs/8
)

// replay runs commands of 4 bytes on a table and its twin and compares.
func replay(t *testing.T, family int, data []byte) {
	const capacity = 128
	tab := newTable(family, capacity, nil)
	slow := &twin{entries: map[twinKey]*twinEntry{}, limit: capacity}
	time := uint64(1<<32 - beforeWrap)
	for ; len(data) >= 4; data = data[4:] {
		now := uint32(time)
		c := client(family, int(data[1]%3))
		k := Key{1 + uint32(data[2]%2), 5, 80 + uint16(data[2]>>1)}
		backend, port := client(family, 1000+int(k.Service)), k.VIPPort
		if k.VIPPort%8 == 0 {
			backend, port = client(family, 2000+int(data[2])), 7
		}
		lifeMs := 1 + 16*uint32(data[3])
		key, h := twinKey{c, k}, homeOf(tab, c, k.ClientPort, 6)
		atHome := atHome(tab, h, c, k)
		fast, want := tab.Find(h, c, k, now), slow.find(key, time)
		if (fast != nil) != (want != nil) || fast != nil && (fast.Backend != want.backend || fast.Expires != uint32(want.expires)) {
			t.Fatalf("%v: table has %+v, twin %+v", key, fast, want)
		}
		if fast != nil && atHome != at(tab, fast, h) {
			t.Fatalf("%v: %p lies at home, but there was %p", key, fast, atHome)
		}
		if got := tab.Peek(h, c, k, now); got != fast {
			t.Fatalf("%v: Peek returns %p, Find %p", key, got, fast)
		}
		if got := tab.PeekReply(h, c, 5, backend, port, false, now); got != fast {
			t.Fatalf("%v: PeekReply returns %p, Find %p", key, got, fast)
		}
		if got := tab.FindReply(h, c, 5, backend, port, false, now); got != fast {
			t.Fatalf("%v: FindReply returns %p, Find %p", key, got, fast)
		}
		switch data[0] % 5 {
		case 0:
			if fast == nil {
				if e := tab.Insert(h, c, k, backend, port, 0, now); e != nil {
					e.Backend, e.Expires = uint32(data[3]), now+lifeMs
					slow.entries[key] = &twinEntry{time + uint64(lifeMs), e.Backend}
				} else if len(slow.entries) < capacity/2 {
					t.Fatalf("insertion refused with %d entries", len(slow.entries))
				}
			}
		case 1:
			if fast != nil {
				tab.Remove(fast)
				delete(slow.entries, key)
			}
		case 2:
			time += uint64(data[3])
		case 3:
			tab.Sweep(now, int(data[3]))
		case 4: // nothing may be left for so long
			if data[3]%16 == 0 {
				time += leap
				tab.Sweep(uint32(time), tab.SweepSlots())
			}
		}
	}
	checkLines(t, tab)
	checkChunks(t, tab)
	tab.Sweep(uint32(time), 2*tab.SweepSlots())
	for k, e := range slow.entries {
		if e.expires <= time {
			delete(slow.entries, k)
		}
	}
	if tab.Len() != len(slow.entries) {
		t.Fatalf("%d entries live, twin has %d", tab.Len(), len(slow.entries))
	}
}

// atHome looks for an entry at its home, as the fast path does.
func atHome(tab *Table, h Home, c packet.Addr, k Key) *Conn {
	if tab.mark != 0 {
		return tab.AtHome6(h, c, k.pack())
	}
	return tab.AtHome4(h, c.V4(), k.pack())
}

// at is the entry if it lies at its home, else nil.
func at(tab *Table, c *Conn, h Home) *Conn {
	if tab.slotOf(c)>>tab.lineShift != uint32(h&^home6) {
		return nil
	}
	return c
}

// checkChunks compares what the sweep believes to be in each chunk of slots with what is there.
func checkChunks(t *testing.T, tab *Table) {
	t.Helper()
	want := make([]uint32, len(tab.chunkLive))
	for slot := range tab.slots() {
		if tab.conn(slot).key != 0 {
			want[slot>>chunkShift]++
		}
	}
	if !slices.Equal(tab.chunkLive, want) {
		t.Fatalf("chunks with %v entries, counted %v", want, tab.chunkLive)
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 0, 1, 3, 200, 1, 1, 2, 0, 2, 0, 0, 9, 3, 0, 0, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		replay(t, 4, data)
		replay(t, 6, data)
	})
}

func TestAgainstTwin(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		data := make([]byte, 4000)
		for i := 0; i < len(data); i += 8 {
			binary.LittleEndian.PutUint64(data[i:], random.Uint64())
		}
		replay(t, 4, data)
		replay(t, 6, data)
	}
}

func TestNextFollowsIPVS(t *testing.T) {
	type step struct {
		from State
		dir  Direction
		flag uint8
		to   State
	}
	for _, s := range []step{
		{StateNone, Input, packet.SYN, SynRecv},
		{SynRecv, Output, packet.SYN | packet.ACK, SynRecv},
		{SynRecv, Output, packet.ACK, SynChallenged}, // not IPVS's
		{SynChallenged, Output, packet.ACK, SynChallenged},
		{SynChallenged, Input, packet.RST, SynChallenged},
		{SynChallenged, Input, packet.SYN, SynRepeated},
		{SynChallenged, Output, packet.SYN | packet.ACK, SynRecv},
		{SynRepeated, Output, packet.ACK, SynRepeated},
		{SynRepeated, Output, packet.SYN | packet.ACK, SynRecv},
		{SynRepeated, Input, packet.ACK, Established},
		{SynRecv, Input, packet.ACK, Established},
		{Established, Input, packet.FIN | packet.ACK, Established}, // not IPVS's
		{SynRecv, Input, packet.FIN | packet.ACK, Established},     // not IPVS's
		{Established, Output, packet.FIN | packet.ACK, FinWait},
		{CloseWait, Output, packet.FIN | packet.ACK, TimeWait},
		{FinWait, Input, packet.FIN | packet.ACK, TimeWait},
		{Established, Input, packet.RST, Close},
		{Established, Input, packet.RST | packet.SYN, Close},
		// an off-path RST can't kill a connection being set up
		{SynRecv, Input, packet.RST, SynRecv},
		{TimeWait, Input, packet.SYN, SynRecv},
		{FinWait, Input, packet.SYN, FinWait}, // not IPVS's
		{FinWait, Output, packet.SYN | packet.ACK, SynRecv},
		{StateNone, InputOnly, packet.SYN, SynRecv},
		{SynRecv, InputOnly, packet.ACK, Established},
		{Established, InputOnly, packet.FIN | packet.ACK, FinWait},
		{Established, InputOnly, packet.RST, Close},
		{FinWait, InputOnly, packet.ACK, FinWait},
		{SynRecv, InputOnly, packet.FIN | packet.ACK, FinWait}, // not IPVS's
		{Close, InputOnly, packet.ACK, Established},            // not IPVS's
		{StateNone, Input, packet.ACK, Established},
		{Established, Input, 0, Established},
		{UDP, Input, packet.RST, UDP},
	} {
		if got := s.from.Next(s.dir, s.flag); got != s.to {
			t.Errorf("%v, direction %d, flags %#x: %v, want %v", s.from, s.dir, s.flag, got, s.to)
		}
	}
}

// TestWholeAddress: two clients with the same home line and addresses that differ in one half only
// have separate entries.
func TestWholeAddress(t *testing.T) {
	tab := newTable(6, 8, nil)
	k, backend := Key{1, 5, 80}, client(6, 77)
	one := client(6, 1)
	h := homeOf(tab, one, 5, 6)
	e := tab.Insert(h, one, k, backend, 0, 0, 0)
	e.BackendPort, e.Expires = 80, 1000
	if tab.AtHome6(h, one, k.pack()) != e || tab.ReplyAtHome6(h, backend, one, 80<<16|5) != e {
		t.Error("not found at home")
	}
	for _, other := range []packet.Addr{{Hi: one.Hi + 1, Lo: one.Lo}, {Hi: one.Hi, Lo: one.Lo + 1}} {
		if tab.Find(h, other, k, 0) != nil || tab.AtHome6(h, other, k.pack()) != nil || tab.ReplyAtHome6(h, backend, other, 80<<16|5) != nil {
			t.Errorf("%s is taken for %s", other, one)
		}
	}
	for _, other := range []packet.Addr{{Hi: backend.Hi + 1, Lo: backend.Lo}, {Hi: backend.Hi, Lo: backend.Lo + 1}} {
		if tab.ReplyAtHome6(h, other, one, 80<<16|5) != nil {
			t.Errorf("%s is taken for %s", other, backend)
		}
	}
}
