package conn

import (
	"math/rand/v2"
	"testing"
)

// TestPeekSeesWhatFindSees: Peek returns what Find would, in nearly full tables with expired
// entries, and changes nothing.
func TestPeekSeesWhatFindSees(t *testing.T) {
	for _, family := range []int{4, 6} {
		rng := rand.New(rand.NewPCG(1, uint64(family)))
		tab := newTable(family, 200, nil)
		const now = 1000
		for i := range 180 {
			c, port := client(family, i%40), uint16(1000+i)
			e := tab.Insert(homeOf(tab, c, port, 6), c, Key{Service: 3, ClientPort: port, VIPPort: 80}, client(family, 900), 0, 0, 0)
			if e == nil {
				continue
			}
			e.BackendPort, e.Expires = 8080, now-10+uint32(rng.IntN(2))*20
		}
		live := tab.Len()
		seen, replies := 0, 0
		for i := range 200 {
			c, port := client(family, i%40), uint16(1000+i)
			h, k := homeOf(tab, c, port, 6), Key{Service: 3, ClientPort: port, VIPPort: 80}
			peeked := tab.Peek(h, c, k, now)
			reply := tab.PeekReply(h, c, port, client(family, 900), 8080, false, now)
			if tab.Len() != live {
				t.Fatal("an onlooker has changed the table")
			}
			if peeked != reply {
				t.Errorf("family %d, entry %d: the client's side finds %v, the backend's %v", family, i, peeked, reply)
			}
			if found := tab.Find(h, c, k, now); found != peeked {
				t.Errorf("family %d, entry %d: found %v, peeked %v", family, i, found, peeked)
			}
			live = tab.Len() // Find has removed what had expired
			if peeked != nil {
				seen++
			}
			if reply != nil {
				replies++
			}
		}
		if seen < 50 || replies != seen {
			t.Errorf("family %d: %d seen, %d replies", family, seen, replies)
		}
	}
}
