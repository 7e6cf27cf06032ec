package conn

import (
	"math/rand/v2"
	"testing"

	"sluice/pipeline/packet"
)

// TestOneClientPort: one client port has 4,000 connections to ports of a service. All are found
// from both sides. Other clients with the same home, and those with homes near it, search as few
// lines as before; nothing of it is left at the end.
func TestOneClientPort(t *testing.T) {
	const entries, clientPort = 4000, 40000
	for _, family := range []int{4, 6} {
		for _, flags := range []Flags{0, IsUDP, NoOutput, Translated} {
			tab := newTable(family, 2*entries, nil)
			c, backend := client(family, 1), client(family, 2)
			proto := uint8(6)
			if flags&IsUDP != 0 {
				proto = 17
			}
			h := homeOf(tab, c, clientPort, proto)
			var all [entries]*Conn
			for i := range all {
				k := Key{3, clientPort, uint16(1 + i)}
				if all[i] = tab.Insert(h, c, k, backend, k.VIPPort, flags, 0); all[i] == nil {
					t.Fatalf("v%d, flags %#x: entry %d refused", family, flags, i)
				}
				all[i].Expires = 1000
			}
			if tab.Len() != entries {
				t.Errorf("%d entries count as %d", entries, tab.Len())
			}
			checkLines(t, tab)
			if n := linesOfMiss(tab, uint32(h&^home6)); n > 2*manyEntries {
				t.Errorf("v%d, flags %#x: a search in vain reads %d lines at the home", family, flags, n)
			}
			if tab.Find(h, c, Key{3, clientPort, entries + 1}, 0) != nil || tab.FindReply(h, c, clientPort, backend, entries+1, flags == IsUDP, 0) != nil {
				t.Error("found an entry that is not there")
			}
			rand.Shuffle(entries, func(i, j int) { all[i], all[j] = all[j], all[i] })
			for i, e := range all {
				k := Key{3, clientPort, e.VIPPort()}
				if got := tab.Find(h, c, k, 0); got != e {
					t.Fatalf("v%d, flags %#x: Find returns %p, want %p", family, flags, got, e)
				}
				reply := tab.FindReply(h, c, clientPort, backend, k.VIPPort, flags == IsUDP, 0)
				if flags&(NoOutput|Translated) == 0 && reply != e || flags&(NoOutput|Translated) != 0 && reply != nil {
					t.Fatalf("v%d, flags %#x: FindReply returns %p for %p", family, flags, reply, e)
				}
				if i%2 == 0 {
					tab.Remove(e)
				}
			}
			checkLines(t, tab)
			seen := 0
			tab.Scan(0, tab.SweepSlots()+1, func(*Conn) { seen++ })
			if seen != entries/2 {
				t.Errorf("v%d, flags %#x: Scan visits %d entries, want %d", family, flags, seen, entries/2)
			}
			tab.Sweep(1000, tab.SweepSlots())
			checkLines(t, tab)
			checkChunks(t, tab)
			for slot := range tab.slots() {
				if tab.conn(slot).key != 0 {
					t.Fatalf("v%d, flags %#x: slot %d is not free", family, flags, slot)
				}
			}
		}
	}
}

// linesOfMiss returns how many lines a search in vain reads from a home line on.
func linesOfMiss(t *Table, line uint32) int {
	n := 1
	for ; t.conn(line<<t.lineShift).over > 0; line++ {
		n++
	}
	return n
}

// TestManyFromFewClientPorts: with a thousand connections of each client port, a table fills to its
// capacity, and searches stay short.
func TestManyFromFewClientPorts(t *testing.T) {
	const clientPorts, each = 60, 1000
	for _, family := range []int{4, 6} {
		tab := newTable(family, clientPorts*each, nil)
		refused := 0
		for i := range clientPorts * each {
			c := client(family, i%clientPorts)
			k := Key{3, 5, uint16(1 + i/clientPorts)}
			if e := tab.Insert(homeOf(tab, c, 5, 6), c, k, packet.Addr{}, k.VIPPort, 0, 0); e != nil {
				e.Expires = 1000
			} else {
				refused++
			}
		}
		if refused > 0 {
			t.Errorf("v%d: %d of %d entries refused", family, refused, clientPorts*each)
		}
		sum := 0
		for line := range tab.lines {
			sum += linesOfMiss(tab, line)
		}
		// 1.27 and 1.59; 1.22 and 1.48 if each has a client port of its own
		if mean := float64(sum) / float64(tab.lines); mean > 2 {
			t.Errorf("v%d: a search in vain reads %.2f lines", family, mean)
		}
	}
}
