package pcap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"sluice/engine/pcap"
)

var (
	first  = bytes.Repeat([]byte{1}, 60)
	second = bytes.Repeat([]byte{2}, 1514)
)

// classic returns a pcap file of two frames, and ng a pcapng file.
func classic(t testing.TB, link layers.LinkType) []byte {
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(65536, link); err != nil {
		t.Fatal(err)
	}
	write(t, w)
	return out.Bytes()
}

func ng(t testing.TB, link layers.LinkType) []byte {
	var out bytes.Buffer
	w, err := pcapgo.NewNgWriter(&out, link)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t testing.TB, w interface {
	WritePacket(gopacket.CaptureInfo, []byte) error
}) {
	for i, frame := range [][]byte{first, second} {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(1700000000+int64(i), 0), CaptureLength: len(frame), Length: len(frame) + i}
		if err := w.WritePacket(info, frame); err != nil {
			t.Fatal(err)
		}
	}
}

// all reads a file to its end or its error.
func all(file []byte) (packets []pcap.Packet, err error) {
	r, err := pcap.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, p)
	}
}

func TestRead(t *testing.T) {
	for name, file := range map[string][]byte{"pcap": classic(t, layers.LinkTypeEthernet), "pcapng": ng(t, layers.LinkTypeEthernet)} {
		packets, err := all(file)
		if err != nil || len(packets) != 2 {
			t.Fatal(name, len(packets), err)
		}
		if p := packets[0]; !bytes.Equal(p.Frame, first) || p.Length != 60 || p.At.Unix() != 1700000000 {
			t.Errorf("%s: %+v", name, p)
		}
		if p := packets[1]; !bytes.Equal(p.Frame, second) || p.Length != 1515 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestDamaged checks that what a damaged file says about lengths is not believed.
func TestDamaged(t *testing.T) {
	huge := func(file []byte, at int) []byte {
		file = bytes.Clone(file)
		binary.LittleEndian.PutUint32(file[at:], 0xfffffff0)
		return file
	}
	pcapFile, ngFile := classic(t, layers.LinkTypeEthernet), ng(t, layers.LinkTypeEthernet)
	packet := bytes.Index(ngFile, []byte{6, 0, 0, 0}) // the enhanced packet block
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"empty", nil, "empty"},
		{"text", []byte("this is a text that is long enough for a head"), "neither a pcap nor a pcapng file"},
		{"head only", ngFile[:6], "not a pcapng file"},
		{"cut pcap", pcapFile[:len(pcapFile)-7], "packet 2: the file is damaged or cut off"},
		{"cut pcapng", ngFile[:len(ngFile)-7], "packet 2: the file is damaged or cut off"},
		{"length in pcap", huge(huge(pcapFile, 16), 24+8), "packet 1"},
		{"block length", huge(ngFile, packet+4), "a block of 4294967280 bytes"},
		{"packet length", huge(ngFile, packet+20), "a packet of 4294967280 bytes"},
		{"link type", classic(t, layers.LinkTypeLinuxSLL), "packet 1 is of link type Linux SLL"},
		{"link type in pcapng", ng(t, layers.LinkTypeLinuxSLL), "packet 1 is of link type Linux SLL"},
	} {
		if _, err := all(c.file); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v does not say %q", c.name, err, c.says)
		}
	}
}

// FuzzRead checks that every file ends in packets or an error, within the memory that it needs.
func FuzzRead(f *testing.F) {
	for _, link := range []layers.LinkType{layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL} {
		f.Add(classic(f, link))
		f.Add(ng(f, link))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		packets, err := all(file)
		total := 0
		for _, p := range packets {
			total += len(p.Frame)
			if len(p.Frame) > p.Length {
				t.Errorf("%d bytes of %d", len(p.Frame), p.Length)
			}
		}
		if compressed := bytes.HasPrefix(file, []byte{0x1f, 0x8b}); !compressed && total > len(file) {
			t.Errorf("%d bytes of packets in a file of %d: %v", total, len(file), err)
		}
	})
}
