package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"

	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Reader reads a stream.
type Reader struct {
	Dictionary

	in     io.Reader
	at     int64 // bytes read, for messages
	sum    uint32
	read   uint64
	block  []byte
	addrs  []packet.Addr // of the backends
	number map[service.Key]uint32
	entry  conn.Entry

	anySum bool // a fuzz test cannot know checksums
}

// NewReader reads the head and the dictionary of a stream. It makes many small reads.
func NewReader(in io.Reader) (*Reader, error) {
	return newReader(&Reader{in: in, block: make([]byte, headSize)})
}

func newReader(r *Reader) (*Reader, error) {
	if err := r.begin(); err != nil {
		return nil, fmt.Errorf("byte %d of the records: %w", r.at, err)
	}
	return r, nil
}

func (r *Reader) begin() error {
	head := r.block[:headSize]
	if err := r.fill(head); err != nil {
		return err
	}
	version, oldest := binary.LittleEndian.Uint16(head[8:]), binary.LittleEndian.Uint16(head[10:])
	switch {
	case string(head[:8]) != magic:
		return fmt.Errorf("they begin with %q: want %q", head[:8], magic)
	case oldest > Version:
		return fmt.Errorf("version %d: readers of version %d and later understand it, and this is %d", version, oldest, Version)
	case version+1 < Version || version == 0 || oldest > version:
		return fmt.Errorf("version %d, for readers of version %d and later: allowed: %d and the one before", version, oldest, Version)
	case !r.sums(crc32.Checksum(head[:28], castagnoli), head[28:]):
		return errors.New("the checksum of the head is wrong")
	case binary.LittleEndian.Uint32(head[12:]) != 0:
		return errors.New("bytes 12 to 15 must be 0")
	}
	r.sum = 0
	services, backends, sources := binary.LittleEndian.Uint32(head[16:]), binary.LittleEndian.Uint32(head[20:]), binary.LittleEndian.Uint32(head[24:])
	if services > maxServices || backends > maxBackends || sources > maxSources {
		return fmt.Errorf("%d services, %d backends and %d sources: at most %d, %d and %d are possible",
			services, backends, sources, maxServices, maxBackends, maxSources)
	}
	r.number = make(map[service.Key]uint32)
	for range services {
		if err := r.readService(); err != nil {
			return err
		}
	}
	for range backends {
		if err := r.readBackend(); err != nil {
			return err
		}
	}
	for range sources {
		if err := r.readSource(); err != nil {
			return err
		}
	}
	want := r.sum
	var sum [4]byte
	if err := r.fill(sum[:]); err != nil {
		return err
	}
	if !r.sums(want, sum[:]) {
		return errors.New("the checksum of the dictionary is wrong")
	}
	return nil
}

// sums reports whether a checksum is the one that was sent.
func (r *Reader) sums(is uint32, sent []byte) bool {
	return r.anySum || is == binary.LittleEndian.Uint32(sent)
}

// fill reads exactly len(b) bytes.
func (r *Reader) fill(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.at += int64(n)
	r.sum = crc32.Update(r.sum, castagnoli, b[:n])
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// address reads an address of a family.
func (r *Reader) address(family uint8) (netip.Addr, error) {
	b := r.block[:16]
	switch family {
	case 4:
		b = r.block[:4]
	case 6:
	default:
		return netip.Addr{}, fmt.Errorf("family %d: allowed: 4 and 6", family)
	}
	if err := r.fill(b); err != nil {
		return netip.Addr{}, err
	}
	a, _ := netip.AddrFromSlice(b)
	return a, nil
}

func (r *Reader) readService() error {
	b := r.block[:6]
	if err := r.fill(b); err != nil {
		return err
	}
	family, protocol := b[0], service.Protocol(b[1])
	ports := service.Ports{First: binary.LittleEndian.Uint16(b[2:]), Last: binary.LittleEndian.Uint16(b[4:])}
	a, err := r.address(family)
	if err != nil {
		return err
	}
	key := service.Key{Address: a, Ports: ports, Protocol: protocol}
	if protocol != service.TCP && protocol != service.UDP || ports.First > ports.Last || r.number[key] != 0 {
		return fmt.Errorf("service %d: protocol %d, ports %d to %d, or a service that was there before", len(r.Services)+1, protocol, ports.First, ports.Last)
	}
	r.Services = append(r.Services, key)
	r.number[key] = uint32(len(r.Services))
	return nil
}

func (r *Reader) readBackend() error {
	b := r.block[:8]
	if err := r.fill(b); err != nil {
		return err
	}
	of, mode, family, port := binary.LittleEndian.Uint32(b), b[4], b[5], binary.LittleEndian.Uint16(b[6:])
	if of == 0 || int(of) > len(r.Services) || mode == 0 || int(mode) >= len(modes) {
		return fmt.Errorf("backend %d: service %d of %d, mode %d of 1 to %d", len(r.Backends)+1, of, len(r.Services), mode, len(modes)-1)
	}
	a, err := r.address(family)
	if err != nil {
		return err
	}
	key := r.Services[of-1]
	r.Backends = append(r.Backends, Backend{key.BackendID(service.BackendKey{Address: a, Port: port}), modes[mode]})
	addr := packet.AddrFrom(a)
	if key.Address.Is4() { // its table has no more
		addr = packet.AddrFrom4(addr.V4())
	}
	r.addrs = append(r.addrs, addr)
	return nil
}

func (r *Reader) readSource() error {
	b := r.block[:2]
	if err := r.fill(b); err != nil {
		return err
	}
	if b[1] != 0 {
		return fmt.Errorf("source %d: its second byte must be 0", len(r.Sources)+1)
	}
	a, err := r.address(b[0])
	r.Sources = append(r.Sources, a)
	return err
}

// Next reads a block and calls visit for each of its records, in the form of an entry with the
// numbers of the Dictionary. The entry is visit's until that returns. The time is nowMs. Next
// returns io.EOF at the end; any other error means that the stream is cut, or no stream, and that
// records may be missing.
func (r *Reader) Next(nowMs uint32, visit func(*conn.Entry)) error {
	err := r.next(nowMs, visit)
	if err != nil && err != io.EOF { //nolint:errorlint // next does not wrap it
		return fmt.Errorf("byte %d of the records: %w", r.at, err)
	}
	return err
}

func (r *Reader) next(nowMs uint32, visit func(*conn.Entry)) error {
	var head [blockHead]byte
	if err := r.fill(head[:]); err != nil {
		return err
	}
	kind, count := head[0], int(binary.LittleEndian.Uint16(head[2:]))
	size := recordSize(kind)
	if kind == kindEnd {
		size = 8
	}
	if kind != kindEnd && kind != 4 && kind != 6 || head[1] != 0 || count == 0 || count > maxRecords || kind == kindEnd && count != 1 {
		return fmt.Errorf("a block of kind %d with %d records: allowed: 4 and 6 with 1 to %d, and %d with 1", kind, count, maxRecords, kindEnd)
	}
	if cap(r.block) < count*size {
		r.block = make([]byte, count*size)
	}
	b := r.block[:count*size]
	if err := r.fill(b); err != nil {
		return err
	}
	if !r.sums(crc32.Checksum(b, castagnoli), head[4:]) {
		return errors.New("the checksum of the block is wrong")
	}
	if kind == kindEnd {
		if all := binary.LittleEndian.Uint64(b); all != r.read {
			return fmt.Errorf("%d records were sent, and %d have arrived", all, r.read)
		}
		return io.EOF
	}
	for ; len(b) > 0; b = b[size:] {
		r.read++
		if err := r.parse(b[:size:size], kind); err != nil {
			return fmt.Errorf("record %d: %w", r.read, err)
		}
		r.entry.Expires += nowMs
		visit(&r.entry)
	}
	return nil
}

// parse makes a record the entry. Expires is the time that is left.
func (r *Reader) parse(b []byte, family uint8) error {
	e := &r.entry
	number, backend, left := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	template := number&templateBit != 0
	number &^= templateBit
	if number-1 >= uint32(len(r.Services)) || backend-1 >= uint32(len(r.Backends)) {
		return fmt.Errorf("service %d of %d, backend %d of %d", number, len(r.Services), backend, len(r.Backends))
	}
	of, to := &r.Services[number-1], &r.Backends[backend-1]
	state, flags, source := conn.State(b[12]), conn.Flags(b[13]), b[14]
	clientPort, vipPort := binary.LittleEndian.Uint16(b[16:]), binary.LittleEndian.Uint16(b[18:])
	backendPort, extra := binary.LittleEndian.Uint16(b[20:]), binary.LittleEndian.Uint16(b[22:])
	udp := of.Protocol == service.UDP
	switch {
	case left == 0 || left > 1<<31-1:
		return fmt.Errorf("%d ms are left: allowed: 1 to %d", left, 1<<31-1)
	case to.ID.Service != *of:
		return fmt.Errorf("backend %d is another service's than %d", backend, number)
	case of.Address.Is4() != (family == 4) || udp != (flags&conn.IsUDP != 0):
		return fmt.Errorf("service %d has another family or protocol", number)
	case state > conn.UDP || !template && udp != (state == conn.UDP) || b[15] != 0:
		return fmt.Errorf("state %d, and %d where 0 must be", state, b[15])
	case template && (clientPort != 0 || backendPort != 0 || flags&^conn.IsUDP != 0 || state != conn.StateNone):
		return errors.New("a template with ports, flags or a state of a connection")
	case !template && flags&(conn.Translated|conn.NoOutput) != flagsOf(to.Mode):
		return fmt.Errorf("flags %#x, and backend %d has mode %s", uint8(flags), backend, to.Mode)
	case !template && (vipPort < of.Ports.First || vipPort > of.Ports.Last):
		return fmt.Errorf("port %d of service %s", vipPort, of)
	case (flags&conn.Translated != 0) != (source != 0) || int(source) > len(r.Sources) || source == 0 && extra != 0:
		return fmt.Errorf("source %d of %d, port %d", source, len(r.Sources), extra)
	}
	*e = conn.Entry{}
	e.SetKey(conn.Key{Service: number, ClientPort: clientPort, VIPPort: vipPort}, template)
	e.Expires, e.Backend, e.BackendPort, e.State, e.Flags, e.Extra = left, backend, backendPort, state, flags, extra
	if source != 0 {
		e.Source = source
	}
	if family == 4 {
		e.Client = packet.AddrFrom4(binary.BigEndian.Uint32(b[24:]))
	} else {
		e.Client = packet.Addr{Hi: binary.BigEndian.Uint64(b[24:]), Lo: binary.BigEndian.Uint64(b[32:])}
	}
	if !template {
		e.BackendAddr = r.addrs[backend-1]
	}
	return nil
}
