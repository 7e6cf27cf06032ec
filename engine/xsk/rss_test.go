package xsk

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// driver answers ethtool requests from bytes, as a driver does.
type driver struct {
	table []uint32
	key   []byte
	hash  byte
	xfrm  byte
	data  map[uint32]uint64 // by kind of packet; nil: not supported
}

func (d *driver) ioctl(request []byte) error {
	u32 := binary.NativeEndian.Uint32
	switch u32(request) {
	case 0x46: // ETHTOOL_GRSSH
		table, key := u32(request[8:]), u32(request[12:])
		if request[17] != 0 || request[18] != 0 || request[19] != 0 || u32(request[20:]) != 0 {
			return unix.EINVAL // reserved
		}
		answer := binary.NativeEndian.AppendUint32(nil, 0x46)
		answer = binary.NativeEndian.AppendUint32(answer, u32(request[4:]))
		answer = binary.NativeEndian.AppendUint32(answer, uint32(len(d.table)))
		answer = binary.NativeEndian.AppendUint32(answer, uint32(len(d.key)))
		answer = append(answer, d.hash, d.xfrm, 0, 0, 0, 0, 0, 0)
		copy(request, answer)
		if table == 0 && key == 0 {
			return nil
		}
		if int(table) != len(d.table) || int(key) != len(d.key) || len(request) != 24+4*len(d.table)+len(d.key) {
			return unix.EINVAL
		}
		rest := request[24:24]
		for _, queue := range d.table {
			rest = binary.NativeEndian.AppendUint32(rest, queue)
		}
		_ = append(rest, d.key...)
		return nil
	case 0x29: // ETHTOOL_GRXFH
		data, ok := d.data[u32(request[4:])]
		if !ok {
			return unix.EOPNOTSUPP
		}
		binary.NativeEndian.PutUint64(request[8:], data)
		return nil
	}
	return unix.EOPNOTSUPP
}

func someDriver() *driver {
	d := &driver{table: make([]uint32, 128), key: make([]byte, 40), hash: 1}
	for i := range d.table {
		d.table[i] = uint32(i % 3)
	}
	for i := range d.key {
		d.key[i] = byte(7 * i)
	}
	return d
}

func TestReadRSS(t *testing.T) {
	d := someDriver()
	r, err := readRSS(d.ioctl)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Key, d.key) || len(r.Queues) != 128 || r.Queues[127] != 127%3 || r.Queues[1] != 1 {
		t.Errorf("%+v", r)
	}
	if !r.TCP4 || !r.TCP6 || r.UDP4 || r.UDP6 {
		t.Errorf("a driver that can't be asked: %+v", r)
	}
	d.data = map[uint32]uint64{1: 0xf0, 2: 0xf0, 5: 0x30, 6: 0xf8}
	if r, err = readRSS(d.ioctl); err != nil {
		t.Fatal(err)
	}
	if !r.TCP4 || r.TCP6 || !r.UDP4 || r.UDP6 {
		t.Errorf("TCP and UDP over IPv4 hash ports, TCP6 does not, UDP6 more than ports: %+v", r)
	}
}

func TestUnknownRSS(t *testing.T) {
	for name, change := range map[string]func(d *driver){
		"xor":            func(d *driver) { d.hash = 2 },
		"crc32":          func(d *driver) { d.hash = 4 },
		"untold":         func(d *driver) { d.hash = 0 },
		"symmetric":      func(d *driver) { d.xfrm = 1 },
		"no key":         func(d *driver) { d.key = nil },
		"no table":       func(d *driver) { d.table = nil },
		"monstrous":      func(d *driver) { d.table = make([]uint32, 1<<20) },
		"queue too high": func(d *driver) { d.table[3] = 1 << 20 },
	} {
		d := someDriver()
		change(d)
		if _, err := readRSS(d.ioctl); !errors.Is(err, ErrNoRSS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := func([]byte) error { return unix.ENODEV }
	if _, err := readRSS(gone); errors.Is(err, ErrNoRSS) || !errors.Is(err, unix.ENODEV) {
		t.Errorf("an interface that is gone: %v", err)
	}
}

// TestRSSOfInterfaces checks that interfaces without hardware give ErrNoRSS and missing ones
// another error.
func TestRSSOfInterfaces(t *testing.T) {
	l := newLab(t)
	p := l.pair(2, 1500)
	l.must(in(l.near, func() error {
		for _, name := range []string{p.nearName, "lo"} {
			if r, err := RSS(name); !errors.Is(err, ErrNoRSS) {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		if _, err := RSS("nosuch0"); !errors.Is(err, unix.ENODEV) {
			t.Errorf("an interface that is not there: %v", err)
		}
		return nil
	}))
}
