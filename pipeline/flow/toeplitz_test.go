package flow

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sluice/pipeline/packet"
)

// verificationKey is the key of Microsoft's "Verifying the RSS Hash Calculation".
var verificationKey, _ = hex.DecodeString("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")

// TestToeplitzVerification computes the hashes that Microsoft publishes for the verification of
// NICs.
func TestToeplitzVerification(t *testing.T) {
	for _, v := range []struct {
		src, dst       string
		ports, without uint32 // hash with ports, and of the addresses alone
	}{
		{"66.9.149.187:2794", "161.142.100.80:1766", 0x51ccc178, 0x323e8fc2},
		{"199.92.111.2:14230", "65.69.140.83:4739", 0xc626b0ea, 0xd718262a},
		{"24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b394a, 0xd2d0a5de},
		{"38.27.205.30:48228", "209.142.163.6:2217", 0xafc7327f, 0x82989176},
		{"153.39.163.191:44251", "202.188.127.2:1303", 0x10e828a2, 0x5d1809c5},
		{"[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x40207d3d, 0x2cc18cd5},
		{"[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0xdde51bbf, 0x0f0c461c},
		{"[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x02d1feef, 0x4b61e985},
	} {
		src, dst := netip.MustParseAddrPort(v.src), netip.MustParseAddrPort(v.dst)
		rss := RSS{Key: verificationKey}
		if got := rss.Hash(packet.AddrFrom(src.Addr()), packet.AddrFrom(dst.Addr()), src.Port(), dst.Port()); got != v.ports {
			t.Errorf("%v > %v: %#08x, want %#08x", src, dst, got, v.ports)
		}
		addrs := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
		if got := Toeplitz(verificationKey, addrs); got != v.without {
			t.Errorf("%v > %v without ports: %#08x, want %#08x", src, dst, got, v.without)
		}
	}
}

// slowToeplitz is the definition, on numbers as long as the key: for each set bit of the input, the
// key shifted so that its 32 bits from there on are the highest.
func slowToeplitz(key, input []byte) uint32 {
	k, sum, width := new(big.Int).SetBytes(key), new(big.Int), 8*len(key)
	number := new(big.Int).SetBytes(input)
	for bit := range 8 * len(input) {
		if number.Bit(8*len(input)-1-bit) == 1 {
			window := new(big.Int).Rsh(k, uint(width-32-bit))
			sum.Xor(sum, window.And(window, big.NewInt(0xffffffff)))
		}
	}
	return uint32(sum.Uint64())
}

// comparePortOwners checks PortOwners of a random RSS with this key against the slow hash and a
// plain look-up in the table.
func comparePortOwners(t *testing.T, seed uint64, data []byte) {
	random := rand.New(rand.NewPCG(seed, 1))
	key := make([]byte, 40)
	for i := range key {
		key[i] = byte(random.Uint32())
	}
	copy(key, data)
	workers := 1 + random.IntN(9)
	queues, is4 := 1+random.IntN(12), random.IntN(2) == 0
	rss := &RSS{Key: key, Queues: make([]uint16, 1<<random.IntN(10)), TCP4: true, TCP6: true}
	for i := range rss.Queues {
		rss.Queues[i] = uint16(random.IntN(queues))
	}
	s := NewPortOwners(rss, 6, is4, workers, func(queue int) int { return queue % workers })
	if s == nil {
		return
	}
	backend, local := packet.Addr{Hi: random.Uint64(), Lo: random.Uint64()}, packet.Addr{Hi: random.Uint64(), Lo: random.Uint64()}
	if is4 {
		backend, local = packet.AddrFrom4(random.Uint32()), packet.AddrFrom4(random.Uint32())
	}
	port := uint16(random.Uint32())
	base := s.Base(backend, port, local)
	count := make([]int, workers)
	for local16 := range 1 << 16 {
		p := uint16(local16)
		owner := s.Owner(base, p)
		for w := range workers {
			if mine := s.Word(w, base, local16>>6)>>(p&63)&1 == 1; mine != (w == owner) {
				t.Fatalf("port %d is worker %d's, but worker %d: %v", p, owner, w, mine)
			}
		}
		count[owner]++
	}
	for w, n := range count {
		if n < 1<<16/(2*workers)-1<<16/len(rss.Queues) {
			t.Errorf("worker %d of %d has %d ports", w, workers, n)
		}
	}
	for range 50 {
		p := uint16(random.Uint32())
		var input []byte
		for _, a := range []packet.Addr{backend, local} {
			input = append(input, a.Netip().AsSlice()...)
		}
		input = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(input, port), p)
		hash := slowToeplitz(key, input)
		if got := rss.Hash(backend, local, port, p); got != hash || base^s.ofPort(p) != hash {
			t.Fatalf("hash of %v:%d > %v:%d is %#x, from the base %#x, want %#x", backend.Netip(), port, local.Netip(), p, got, base^s.ofPort(p), hash)
		}
	}
}

func FuzzPortOwners(f *testing.F) {
	f.Add(uint64(1), verificationKey)
	f.Add(uint64(2), bytes.Repeat([]byte{0x6d, 0x5a}, 20)) // hashes both directions alike
	f.Add(uint64(3), make([]byte, 40))
	f.Fuzz(comparePortOwners)
}

func TestPortOwnersAgainstTwin(t *testing.T) {
	for seed := range uint64(200) {
		comparePortOwners(t, seed, nil)
	}
}

// rssOf returns an RSS with a table of 128 entries that has the queues in turn, the default of
// drivers.
func rssOf(queues int) *RSS {
	r := &RSS{Key: verificationKey, Queues: make([]uint16, 128), TCP4: true, TCP6: true}
	for i := range r.Queues {
		r.Queues[i] = uint16(i % queues)
	}
	return r
}

// TestPortOwnersFollowRSS: with a queue for each worker, each port belongs to the worker that the
// NIC delivers to.
func TestPortOwnersFollowRSS(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 4, 8, 16} {
		for _, is4 := range []bool{true, false} {
			rss := rssOf(workers)
			s := NewPortOwners(rss, 6, is4, workers, func(queue int) int { return queue })
			if s == nil {
				t.Fatalf("%d workers: no PortOwners", workers)
			}
			backend, local := packet.AddrFrom4(0x0a00000b), packet.AddrFrom4(0x0a000002)
			if !is4 {
				backend, local = packet.Addr{Hi: 0x20010db8 << 32, Lo: 11}, packet.Addr{Hi: 0x20010db8 << 32, Lo: 2}
			}
			base := s.Base(backend, 8080, local)
			for port := range 1 << 16 {
				queue := rss.Queues[rss.Hash(backend, local, 8080, uint16(port))&127]
				if owner := s.Owner(base, uint16(port)); owner != int(queue) {
					t.Fatalf("%d workers: port %d is worker %d's, but is delivered to queue %d", workers, port, owner, queue)
				}
			}
		}
	}
}

// TestPortOwnersWithoutQueues: workers without a queue get ports too; ports delivered to queues
// that are not ours belong to no worker.
func TestPortOwnersWithoutQueues(t *testing.T) {
	s := NewPortOwners(rssOf(4), 6, true, 3, func(queue int) int {
		if queue >= 2 {
			return -1
		}
		return queue
	})
	base := s.Base(packet.AddrFrom4(1), 2, packet.AddrFrom4(3))
	count := make(map[int]int)
	for port := range 1 << 16 {
		count[s.Owner(base, uint16(port))]++
	}
	// Of 128 entries, each worker has 32 and 64 have no worker; worker 2 gets a sixth of 64: 10, 5
	// of each.
	for owner, want := range map[int]int{0: 27 * 512, 1: 27 * 512, 2: 10 * 512, noWorker: 64 * 512} {
		if count[owner] != want {
			t.Errorf("owner %d has %d ports, want %d", owner, count[owner], want)
		}
	}
}

// TestNoPortOwners: an RSS that cannot be used is refused.
func TestNoPortOwners(t *testing.T) {
	for name, change := range map[string]func(r *RSS){
		"ports not hashed":   func(r *RSS) { r.TCP4 = false },
		"key too short":      func(r *RSS) { r.Key = r.Key[:15] },
		"no key":             func(r *RSS) { r.Key = make([]byte, 40) },
		"no table":           func(r *RSS) { r.Queues = nil },
		"table of 100":       func(r *RSS) { r.Queues = r.Queues[:100] },
		"table too small":    func(r *RSS) { r.Queues = r.Queues[:2] },
		"other queues only":  func(r *RSS) { r.Queues = bytes16(128, 7) },
		"blind to low ports": func(r *RSS) { clear(r.Key[11:]) },
	} {
		rss := rssOf(2)
		change(rss)
		worker := func(queue int) int {
			if queue == 7 {
				return -1
			}
			return queue
		}
		if s := NewPortOwners(rss, 6, true, 2, worker); s != nil {
			t.Errorf("%s: PortOwners were made", name)
		}
	}
	if NewPortOwners(rssOf(2), 17, true, 2, func(int) int { return 0 }) != nil {
		t.Error("UDP ports are divided, which the NIC does not hash")
	}
	if NewPortOwners(rssOf(2), 6, true, 256, func(int) int { return 0 }) != nil {
		t.Error("256 workers got ports")
	}
}

func bytes16(n int, value uint16) []uint16 {
	s := make([]uint16, n)
	for i := range s {
		s[i] = value
	}
	return s
}
