package conn

import (
	"math/rand/v2"
	"testing"

	"sluice/pipeline/packet"
)

// insertSlot and insertAtSlot are InsertSlot4 and InsertAt4, or those of IPv6.
func insertSlot(t *Table, family int, home Home, c packet.Addr, port uint16, nowMs uint32) (uint32, bool) {
	if family == 4 {
		return t.InsertSlot4(home, c.V4(), port, nowMs)
	}
	return t.InsertSlot6(home, c, port, nowMs)
}

func insertAtSlot(t *Table, family int, home Home, slot uint32, c packet.Addr, k Key, backend packet.Addr) *Conn {
	if family == 4 {
		return t.InsertAt4(home, slot, c.V4(), k.pack(), backend.V4(), 0)
	}
	return t.InsertAt6(home, slot, c, k.pack(), backend, 0)
}

// TestInsertFastEqualsInsert makes the same random changes to two tables: entries are added,
// removed and expire, and ports are reused. One table uses Insert only, the other InsertSlot
// whenever that finds a slot. Both must end with the same entries, and InsertSlot must not find a
// slot for an entry that exists.
func TestInsertFastEqualsInsert(t *testing.T) {
	for _, family := range []int{4, 6} {
		const capacity = 64
		r := rand.New(rand.NewPCG(uint64(family), 9))
		plain, quick := newTable(family, capacity, nil), newTable(family, capacity, nil)
		found, now := 0, uint32(1<<32-50_000)
		for n := range 200_000 {
			now += uint32(r.IntN(40))
			c, backend := client(family, r.IntN(40)), client(family, 1000+r.IntN(2))
			k := Key{Service: uint32(1 + r.IntN(2)), ClientPort: uint16(1 + r.IntN(3)), VIPPort: 80}
			home := homeOf(plain, c, k.ClientPort, 6)
			if r.IntN(3) == 0 {
				for _, tab := range []*Table{plain, quick} {
					if e := tab.Find(home, c, k, now); e != nil {
						tab.Remove(e)
					}
				}
				continue
			}
			slot, ok := insertSlot(quick, family, home, c, k.ClientPort, now)
			// Find also removes expired entries, from both tables alike.
			known := plain.Find(home, c, k, now) != nil || plain.FindReply(home, c, k.ClientPort, backend, 80, false, now) != nil
			if ok && known {
				t.Fatalf("v%d, step %d: InsertSlot found a slot for %v %v, which exists", family, n, c, k)
			}
			if !ok && (quick.Find(home, c, k, now) != nil || quick.FindReply(home, c, k.ClientPort, backend, 80, false, now) != nil) != known {
				t.Fatalf("v%d, step %d: the tables differ about %v %v", family, n, c, k)
			}
			if known {
				continue
			}
			a := plain.Insert(home, c, k, backend, 0, 0, now)
			var b *Conn
			if ok {
				found++
				b = insertAtSlot(quick, family, home, slot, c, k, backend)
			} else {
				b = quick.Insert(home, c, k, backend, 0, 0, now)
			}
			if (a == nil) != (b == nil) {
				t.Fatalf("v%d, step %d: Insert returned %v, InsertSlot %v", family, n, a, b)
			}
			if a == nil {
				continue
			}
			a.BackendPort, a.Expires = 80, now+1+uint32(r.IntN(3000))
			b.BackendPort, b.Expires = 80, a.Expires
			if *a != *b || plain.Len() != quick.Len() || quick.Client(b) != c || quick.BackendAddr(b) != backend {
				t.Fatalf("v%d, step %d: %+v and %+v; %d and %d live", family, n, *a, *b, plain.Len(), quick.Len())
			}
			if quick.Find(home, c, k, now) != b {
				t.Fatalf("v%d, step %d: the entry of InsertAt is not found", family, n)
			}
		}
		if found < 10_000 {
			t.Errorf("v%d: InsertSlot found a slot only %d times", family, found)
		}
	}
}

// TestInsertSlotLimit: InsertSlot finds no slot in a table at its capacity, even if slots are free.
func TestInsertSlotLimit(t *testing.T) {
	for _, family := range []int{4, 6} {
		tab := newTable(family, 4, nil)
		for i := range 5 {
			c := client(family, i)
			home := homeOf(tab, c, 1, 6)
			slot, ok := insertSlot(tab, family, home, c, 1, 0)
			if i == 4 {
				if ok {
					t.Errorf("v%d: a slot for a fifth connection of four", family)
				}
				continue
			}
			if !ok { // too near to others for InsertSlot
				tab.Insert(home, c, Key{1, 1, 80}, packet.Addr{}, 0, 0, 0).Expires = 1000
				continue
			}
			insertAtSlot(tab, family, home, slot, c, Key{1, 1, 80}, packet.Addr{}).Expires = 1000
		}
	}
}
