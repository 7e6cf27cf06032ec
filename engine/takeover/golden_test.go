package takeover

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// TestGoldenEstate compares what a fixed script of operations leaves in tables with what it left
// when meaning was written: connections in each state, of both families and protocols, with each
// flag, with SNAT sources and ports, on lines that spill over, removed ones, and templates.
func TestGoldenEstate(t *testing.T) {
	h := sha256.New()
	seed := &flow.Seed{A: 0x0123456789abcdef, B: 0xfedcba9876543210}
	for _, family := range []int{4, 6} {
		goldenTable(t, h, family, seed)
	}
	for ownership := pipeline.ByFlow; ownership <= pipeline.ByFlowNow; ownership++ {
		fmt.Fprintln(h, ownership)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != meaning {
		t.Errorf("the bytes of connection tables mean something else now: set meaning in takeover.go to %q, "+
			"so that no process takes entries for its own that another version has written", got)
	}
}

// goldenTable adds the bytes of a table of a family to the hash, and the owners of its flows.
func goldenTable(t *testing.T, h hash.Hash, family int, seed *flow.Seed) {
	const entries, nowMs = 256, 1000
	mem := make([]byte, max(conn.Bytes(family, entries), 1<<13)) // aligned to pages, being so much
	share := counter.NewCapacity(1, entries).NewShare()
	table := conn.New(family, entries, mem, share, seed, func(*conn.Table, *conn.Conn) bool { return true })
	addr := func(v4, v6 string, n int) packet.Addr {
		a := netip.MustParseAddr(map[int]string{4: v4, 6: v6}[family])
		for range n {
			a = a.Next()
		}
		return packet.AddrFrom(a)
	}
	insert := func(client packet.Addr, key conn.Key, proto uint8, flags conn.Flags, state conn.State, n int) *conn.Conn {
		for share.Free == 0 {
			share.Grow()
		}
		hash := seed.Hash(client, key.ClientPort, proto)
		for workers := 1; workers <= 8; workers++ {
			fmt.Fprintln(h, flow.Owner(hash, workers))
		}
		c := table.Insert(table.Home(hash), client, key, addr("10.0.0.1", "2001:db8:a::1", n%7), 8080, flags, nowMs)
		if c == nil {
			t.Fatalf("entry %d finds no place", n)
		}
		c.Backend, c.Expires, c.State = uint32(100+n), uint32(nowMs+1000*n), state
		c.Source, c.Extra = uint8(n), uint16(1024+n)
		return c
	}
	var all []*conn.Conn
	n := 0
	for state := range conn.StateCount {
		for _, flags := range []conn.Flags{0, conn.NoOutput, conn.SeenReply, conn.Translated | conn.SeenReply, conn.Proven} {
			for _, proto := range []uint8{packet.TCP, packet.UDP} {
				if n++; proto == packet.UDP {
					flags |= conn.IsUDP
				}
				key := conn.Key{Service: uint32(1 + n%5), ClientPort: uint16(20000 + n), VIPPort: 80}
				all = append(all, insert(addr("192.0.2.1", "2001:db8:c::1", n%50), key, proto, flags, state, n))
			}
		}
		fmt.Fprintln(h, state)
	}
	for range 8 { // of one client port, so that the home line is full
		n++
		key := conn.Key{Service: 1, ClientPort: 30000, VIPPort: uint16(n)}
		all = append(all, insert(addr("192.0.2.1", "2001:db8:c::1", 3), key, packet.TCP, 0, 0, n))
	}
	for service := range uint32(4) {
		n++
		insert(addr("192.0.2.1", "2001:db8:c::1", n%50), conn.TemplateKey(1+service, uint16(80*(service%2))), packet.TCP, 0, 0, n)
	}
	for i := 0; i < len(all); i += 9 {
		table.Remove(all[i])
	}
	h.Write(mem)
}
