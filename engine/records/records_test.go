package records

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

var update = flag.Bool("update", false, "write testdata")

const golden = "testdata/version1.bin"

// box is what a process has: numbers and two tables.
type box struct {
	services []service.Key
	backends []Backend
	sources  []netip.Addr
	tables   map[uint8]*conn.Table
}

var seed = &flow.Seed{A: 7, B: 9}

// newBox returns a box with empty tables. Its numbers have gaps, and each service has backends in
// all modes.
func newBox(entries int) *box {
	b := &box{tables: make(map[uint8]*conn.Table)}
	share := counter.NewCapacity(1, 2*entries).NewShare()
	for _, family := range []int{4, 6} {
		mem := make([]byte, conn.Bytes(family, entries)+conn.LineSize)
		b.tables[uint8(family)] = conn.New(family, entries, mem, share, seed, func(*conn.Table, *conn.Conn) bool { return false })
	}
	b.services, b.backends = make([]service.Key, 1), make([]Backend, 3)
	for i, address := range []string{"192.0.2.1", "2001:db8::1"} {
		for _, protocol := range []service.Protocol{service.TCP, service.UDP} {
			key := service.Key{Address: netip.MustParseAddr(address), Ports: service.Ports{First: 80, Last: 89}, Protocol: protocol}
			b.services = append(b.services, key, service.Key{})
			for _, mode := range modes[1:] {
				backend := service.BackendKey{Address: netip.MustParseAddr([]string{"10.0.0.1", "2001:db8:a::1"}[(i+len(b.backends)%2)%2]), Port: uint16(mode)}
				b.backends = append(b.backends, Backend{key.BackendID(backend), mode})
			}
		}
	}
	b.sources = []netip.Addr{netip.MustParseAddr("10.0.0.2"), {}, netip.MustParseAddr("2001:db8:a::2")}
	return b
}

// insert inserts a connection, or a template, of a random kind.
func (b *box) insert(r *rand.Rand, n int) {
	number := 3 + r.IntN(len(b.backends)-3)
	to := b.backends[number]
	id := uint32(0)
	for i, key := range b.services {
		if key == to.ID.Service {
			id = uint32(i)
		}
	}
	client, t := packet.AddrFrom4(0xc6336400+uint32(n)), b.tables[4]
	addr := packet.AddrFrom(to.ID.Backend.Address)
	if to.ID.Service.Address.Is6() {
		client, t = packet.Addr{Hi: 0x20010db8 << 32, Lo: uint64(n)}, b.tables[6]
	} else {
		addr = packet.AddrFrom4(addr.V4())
	}
	k := conn.Key{Service: id, ClientPort: uint16(r.IntN(1 << 16)), VIPPort: uint16(80 + r.IntN(10))}
	flags, state := flagsOf(to.Mode)|[]conn.Flags{0, conn.Proven, conn.Proven | conn.SeenReply, conn.HasTemplate, conn.ClientFIN, conn.Doubted}[r.IntN(6)],
		conn.State(r.IntN(int(conn.UDP)))
	if to.ID.Service.Protocol == service.UDP {
		flags, state = flags|conn.IsUDP, conn.UDP
	}
	template := r.IntN(8) == 0
	port := to.ID.Backend.Port
	if template {
		k = conn.TemplateKey(id, k.VIPPort)
		flags, state, addr, port = flags&conn.IsUDP, 0, packet.Addr{}, 0
	}
	proto := uint8(6)
	if flags&conn.IsUDP != 0 {
		proto = 17
	}
	c := t.Insert(t.Home(seed.Hash(client, k.ClientPort, proto)), client, k, addr, port, flags, now)
	c.Backend, c.State, c.Expires = uint32(number), state, now+1+uint32(r.IntN(900_000))
	if flags&conn.Translated != 0 {
		c.Source, c.Extra = uint8(2*r.IntN(2)), uint16(1024+n)
	}
}

const now = 1 << 31 // so that times wrap

// list returns the entries of both tables as text, by what services and backends are.
func (b *box) list() map[string]int {
	all := make(map[string]int)
	for family, t := range b.tables {
		for cursor := uint32(0); ; {
			cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
				text := fmt.Sprint(family, c.IsTemplate(), b.services[c.Service()], b.backends[c.Backend], c.ClientPort(), c.VIPPort(), t.Client(c), t.BackendAddr(c),
					c.State, c.Flags, c.Expires, c.BackendPort, c.Extra)
				if c.Flags&conn.Translated != 0 {
					text += b.sources[c.Source].String()
				}
				all[text]++
			})
			if cursor == 0 {
				break
			}
		}
	}
	return all
}

// write writes the tables, some slots at a time.
func (b *box) write(slots func() int) []byte {
	w := NewWriter(b.services, b.backends, b.sources)
	out := w.Begin(nil)
	for _, family := range []uint8{4, 6} {
		for cursor := uint32(0); ; {
			if out, cursor = w.Append(out, b.tables[family], cursor, slots(), now); cursor == 0 {
				break
			}
		}
	}
	return End(out, w.Written())
}

// read returns a box with what was written.
func read(data []byte, entries int) (*box, error) {
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	b := newBox(entries)
	b.services = append([]service.Key{{}}, r.Services...)
	b.backends = append([]Backend{{}}, r.Backends...)
	b.sources = append([]netip.Addr{{}}, r.Sources...)
	for {
		err := r.Next(now, func(e *conn.Entry) {
			family := uint8(6)
			if e.Client.Is4() {
				family = 4
			}
			c := b.tables[family].Restore(e, now)
			c.Flags |= e.Flags // Restore leaves out what a template and a doubt need
		})
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// TestRoundTrip: random tables, written in random steps, are read as they were.
func TestRoundTrip(t *testing.T) {
	for s := range uint64(20) {
		r := rand.New(rand.NewPCG(s, 1))
		b := newBox(1 << 12)
		for n := range r.IntN(5000) {
			b.insert(r, n)
		}
		data := b.write(func() int { return 1 + r.IntN(2*maxRecords) })
		got, err := read(data, 1<<12)
		if err != nil {
			t.Fatal(err)
		}
		if want := b.list(); !maps.Equal(got.list(), want) {
			t.Fatalf("seed %d: %d entries were written, and others read", s, len(want))
		}
	}
}

// small returns a stream with each kind of record.
func small() []byte {
	r, b := rand.New(rand.NewPCG(3, 4)), newBox(64)
	for n := range 40 {
		b.insert(r, n)
	}
	return b.write(func() int { return 50 })
}

// TestGolden: the bytes of version 1 do not change, and are read.
func TestGolden(t *testing.T) {
	if *update {
		if err := os.WriteFile(golden, small(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(small(), want) {
		t.Errorf("the stream is not that of %s: raise Version, and read both", golden)
	}
	b, err := read(want, 64)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(b.list()); n != 40 {
		t.Errorf("%d records, want 40", n)
	}
}

// TestLeftOut: what has expired, is being reset, or belongs to what has no number, is not written.
func TestLeftOut(t *testing.T) {
	b := newBox(64)
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 40 {
		b.insert(r, n)
	}
	n, left := 0, 0
	for _, table := range b.tables {
		table.Scan(0, 1<<20, func(c *conn.Conn) {
			n++
			switch n % 4 {
			case 0:
				c.Expires = now
			case 1:
				c.State = conn.Idle
			case 2:
				c.Backend = 1
			default:
				left++
			}
		})
	}
	got, err := read(b.write(func() int { return 7 }), 64)
	if err != nil || len(got.list()) != left {
		t.Errorf("%v, and %d records, want %d", err, len(got.list()), left)
	}
}

// TestRefused: whatever byte is changed, and wherever the stream is cut, it is refused.
func TestRefused(t *testing.T) {
	data := small()
	for i := range data {
		if err := scan(data[:i]); err == nil {
			t.Fatalf("a stream of %d of %d bytes is read", i, len(data))
		}
		changed := bytes.Clone(data)
		changed[i] ^= 1 << (i % 8)
		if err := scan(changed); err == nil {
			t.Fatalf("byte %d is changed, and the stream is read", i)
		}
	}
	newer := bytes.Clone(data)
	newer[8], newer[10] = Version+1, Version+1
	if err := scan(newer); err == nil || !strings.Contains(err.Error(), "readers of version 2 and later") {
		t.Errorf("version 2: %v", err)
	}
	many := bytes.Clone(data)
	many[19] = 0xff
	if _, err := newReader(&Reader{in: bytes.NewReader(many), block: make([]byte, headSize), anySum: true}); err == nil || !strings.Contains(err.Error(), "are possible") {
		t.Errorf("many services: %v", err)
	}
}

// scan reads a stream to its end.
func scan(data []byte) error {
	r, err := NewReader(bytes.NewReader(data))
	for err == nil {
		err = r.Next(now, func(*conn.Entry) {})
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// FuzzReader reads streams, whatever their checksums. All that is read is possible, and is written
// and read again as it was.
func FuzzReader(f *testing.F) {
	f.Add(small())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := newReader(&Reader{in: bytes.NewReader(data), block: make([]byte, headSize), anySum: true})
		if err != nil {
			return
		}
		for err == nil {
			err = r.Next(now, func(e *conn.Entry) {
				of, to := r.Services[e.Service()-1], r.Backends[e.Backend-1]
				if of != to.ID.Service || of.Address.Is4() != e.Client.Is4() || e.Expired(now) || int(e.Source) > len(r.Sources) || e.State > conn.UDP {
					t.Errorf("service %v, backend %v, entry %+v", of, to, e)
				}
			})
		}
	})
}

const benchEntries = 1 << 20

// filled returns a box with IPv4 connections only.
func filled() *box {
	b := newBox(benchEntries)
	t := b.tables[4]
	for n := range uint32(1_000_000) {
		client, k := packet.AddrFrom4(0x0a000000+n), conn.Key{Service: 1, ClientPort: uint16(n), VIPPort: 80}
		c := t.Insert(t.Home(seed.Hash(client, k.ClientPort, 6)), client, k, packet.AddrFrom4(0x0a000001), 1, conn.Proven|conn.SeenReply, now)
		c.Backend, c.State, c.Expires = 3, conn.Established, now+900_000
	}
	return b
}

// BenchmarkExport is the time per record, of a million.
func BenchmarkExport(b *testing.B) {
	from := filled()
	w := NewWriter(from.services, from.backends, from.sources)
	var out []byte
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		for cursor := uint32(0); done < b.N; {
			before := w.Written()
			out, cursor = w.Append(out[:0], from.tables[4], cursor, maxRecords, now)
			if done += int(w.Written() - before); cursor == 0 {
				break
			}
		}
	}
}

// BenchmarkImport is the time per record, of a million.
func BenchmarkImport(b *testing.B) {
	data := filled().write(func() int { return maxRecords })
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		to := newBox(benchEntries).tables[4]
		r, err := NewReader(bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for err == nil && done < b.N {
			err = r.Next(now, func(e *conn.Entry) {
				to.Restore(e, now)
				done++
			})
		}
	}
}
