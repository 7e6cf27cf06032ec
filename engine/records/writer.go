package records

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"sluice/pipeline/conn"
	"sluice/pipeline/service"
)

// Writer writes a stream. It keeps nothing of what it has written but the number of records. A
// Writer for each of several tables at a time needs only the same arguments of NewWriter: the
// blocks of all follow one head.
type Writer struct {
	dictionary         Dictionary
	services, backends []uint32 // by number in tables: the number in the stream; 0: none
	sources            []uint8
	written            uint64

	// of the call of Append
	t     *conn.Table
	out   []byte
	count int
	nowMs uint32
	visit func(*conn.Conn) // made once, so that no call allocates
}

// NewWriter returns a Writer for tables in which the numbers of services, backends and sources are
// the indexes here. What has no valid address has no meaning, and its connections are not written.
func NewWriter(services []service.Key, backends []Backend, sources []netip.Addr) *Writer {
	w := &Writer{services: make([]uint32, len(services)), backends: make([]uint32, len(backends)), sources: make([]uint8, len(sources))}
	w.visit = w.add
	numbers := make(map[service.Key]uint32, len(services))
	for i, key := range services {
		if key.Address.IsValid() {
			w.dictionary.Services = append(w.dictionary.Services, key)
			w.services[i] = uint32(len(w.dictionary.Services))
			numbers[key] = w.services[i]
		}
	}
	for i, b := range backends {
		if b.ID.Backend.Address.IsValid() && numbers[b.ID.Service] != 0 {
			w.dictionary.Backends = append(w.dictionary.Backends, b)
			w.backends[i] = uint32(len(w.dictionary.Backends))
		}
	}
	for i, a := range sources {
		if a.IsValid() && len(w.dictionary.Sources) < maxSources {
			w.dictionary.Sources = append(w.dictionary.Sources, a)
			w.sources[i] = uint8(len(w.dictionary.Sources))
		}
	}
	return w
}

// Begin appends the head and the dictionary to out.
func (w *Writer) Begin(out []byte) []byte {
	d, from := &w.dictionary, len(out)
	out = append(out, magic...)
	for _, n := range []int{Version | Version<<16, 0, len(d.Services), len(d.Backends), len(d.Sources)} {
		out = binary.LittleEndian.AppendUint32(out, uint32(n))
	}
	out = appendSum(out, from)
	from = len(out)
	numbers := make(map[service.Key]uint32, len(d.Services))
	for i, s := range d.Services {
		numbers[s] = uint32(i + 1)
		out = append(out, familyOf(s.Address), uint8(s.Protocol))
		out = binary.LittleEndian.AppendUint16(out, s.Ports.First)
		out = binary.LittleEndian.AppendUint16(out, s.Ports.Last)
		out = append(out, s.Address.AsSlice()...)
	}
	for _, b := range d.Backends {
		out = binary.LittleEndian.AppendUint32(out, numbers[b.ID.Service])
		out = append(out, modeNumber(b.Mode), familyOf(b.ID.Backend.Address))
		out = binary.LittleEndian.AppendUint16(out, b.ID.Backend.Port)
		out = append(out, b.ID.Backend.Address.AsSlice()...)
	}
	for _, a := range d.Sources {
		out = append(out, familyOf(a), 0)
		out = append(out, a.AsSlice()...)
	}
	return appendSum(out, from)
}

// appendSum appends the checksum of what was appended since from.
func appendSum(out []byte, from int) []byte {
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out[from:], castagnoli))
}

// familyOf returns the family of an address.
func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

// modeNumber returns the number of a mode in streams.
func modeNumber(m service.Mode) uint8 {
	for n, mode := range modes {
		if mode == m {
			return uint8(n)
		}
	}
	return 0
}

// Append appends a block with the entries in the next slots of a table from cursor on, at most
// 4,096, and returns the cursor to go on with; 0: the end of the table was reached. Entries that
// have expired, and those of which both ends are being reset, are left out. Only the owner of the
// table may call it.
func (w *Writer) Append(out []byte, t *conn.Table, cursor uint32, slots int, nowMs uint32) (_ []byte, next uint32) {
	from := len(out)
	w.t, w.out, w.count, w.nowMs = t, append(out, 4, 0, 0, 0, 0, 0, 0, 0), 0, nowMs
	if t.IsIPv6() {
		w.out[from] = 6
	}
	next = t.Scan(cursor, min(slots, maxRecords), w.visit)
	out, w.t, w.out = w.out, nil, nil
	if w.count == 0 {
		return out[:from], next
	}
	binary.LittleEndian.PutUint16(out[from+2:], uint16(w.count))
	binary.LittleEndian.PutUint32(out[from+4:], crc32.Checksum(out[from+blockHead:], castagnoli))
	w.written += uint64(w.count)
	return out, next
}

// add appends a record.
func (w *Writer) add(c *conn.Conn) {
	left := int32(c.Expires - w.nowMs)
	if left <= 0 || c.State > conn.UDP || int(c.Service()) >= len(w.services) || int(c.Backend) >= len(w.backends) {
		return
	}
	number, backend := w.services[c.Service()], w.backends[c.Backend]
	if number == 0 || backend == 0 {
		return
	}
	var r [recordSize6]byte
	b := r[:recordSize4]
	if w.t.IsIPv6() {
		b = r[:]
	}
	if c.IsTemplate() {
		number |= templateBit
	} else {
		binary.LittleEndian.PutUint16(b[20:], c.BackendPort)
	}
	if c.Flags&conn.Translated != 0 {
		if int(c.Source) >= len(w.sources) || w.sources[c.Source] == 0 {
			return
		}
		b[14] = w.sources[c.Source]
		binary.LittleEndian.PutUint16(b[22:], c.Extra)
	}
	binary.LittleEndian.PutUint32(b, number)
	binary.LittleEndian.PutUint32(b[4:], backend)
	binary.LittleEndian.PutUint32(b[8:], uint32(left))
	if b[12], b[13] = uint8(c.State), uint8(c.Flags); c.IsTemplate() {
		b[12], b[13] = 0, uint8(c.Flags&conn.IsUDP)
	}
	binary.LittleEndian.PutUint16(b[16:], c.ClientPort())
	binary.LittleEndian.PutUint16(b[18:], c.VIPPort())
	if client := w.t.Client(c); len(b) == recordSize4 {
		binary.BigEndian.PutUint32(b[24:], client.V4())
	} else {
		binary.BigEndian.PutUint64(b[24:], client.Hi)
		binary.BigEndian.PutUint64(b[32:], client.Lo)
	}
	w.out = append(w.out, b...)
	w.count++
}

// Written returns the number of records that were written.
func (w *Writer) Written() uint64 { return w.written }

// End appends the end of a stream of so many records.
func End(out []byte, records uint64) []byte {
	payload := binary.LittleEndian.AppendUint64(nil, records)
	out = append(out, kindEnd, 0, 1, 0)
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(payload, castagnoli))
	return append(out, payload...)
}
