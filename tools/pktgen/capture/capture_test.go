package capture_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"sluice/tools/pktgen/capture"
	"sluice/tools/pktgen/frame"
)

var update = flag.Bool("update", false, "write testdata/mixed.pcapng again")

// mixed returns five frames of different kinds and lengths, 0, 1, 5, 5 and 20 ms after the first.
func mixed() (frames [][]byte, offsets []time.Duration) {
	for i, length := range []int{14, 60, 61, 1000, 1514} {
		b := make([]byte, length)
		for j := range b {
			b[j] = byte(i*31 + j)
		}
		copy(b[12:], []byte{0x08, 0x00})
		frames = append(frames, b)
	}
	return frames, []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond}
}

// packetWriter is the interface of both writers of gopacket.
type packetWriter interface {
	WritePacket(gopacket.CaptureInfo, []byte) error
}

func write(t *testing.T, w packetWriter) {
	t.Helper()
	frames, offsets := mixed()
	start := time.Unix(1_700_000_000, 0)
	for i, b := range frames {
		must(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: start.Add(offsets[i]), CaptureLength: len(b), Length: len(b)}, b))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pcapFile(t *testing.T, link layers.LinkType, fill func(packetWriter)) string {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	must(t, w.WriteFileHeader(65535, link))
	fill(w)
	return file(t, b.Bytes())
}

func file(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

// TestReadsBothFormats: both formats give the same frames and times.
func TestReadsBothFormats(t *testing.T) {
	var ng bytes.Buffer
	w, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeEthernet)
	must(t, err)
	write(t, w)
	must(t, w.Flush())
	if *update {
		must(t, os.WriteFile("testdata/mixed.pcapng", ng.Bytes(), 0o644))
	}
	frames, offsets := mixed()
	for name, path := range map[string]string{
		"pcap":      pcapFile(t, layers.LinkTypeEthernet, func(w packetWriter) { write(t, w) }),
		"pcapng":    file(t, ng.Bytes()),
		"test data": "testdata/mixed.pcapng",
	} {
		f, err := capture.Read(path)
		must(t, err)
		if f.Frames() != len(frames) || f.Truncated != 0 {
			t.Fatalf("%s: %d frames, %d truncated", name, f.Frames(), f.Truncated)
		}
		r := capture.NewReplay(f, 1)
		to := make([]byte, r.MaxBytes())
		for i, want := range frames {
			if got := time.Duration(r.OffsetNS()); got != offsets[i] {
				t.Errorf("%s: frame %d is due after %v, want %v", name, i, got, offsets[i])
			}
			if n := r.Next(to, 0); !bytes.Equal(to[:n], want) {
				t.Errorf("%s: frame %d is %x", name, i, to[:n])
			}
		}
		if n := r.Next(to, 0); n != 0 {
			t.Errorf("%s: there is a frame after the last one", name)
		}
	}
}

// TestLoops: the second loop begins when the last frame of the first one is due.
func TestLoops(t *testing.T) {
	f, err := capture.Read("testdata/mixed.pcapng")
	must(t, err)
	to := make([]byte, 2000)
	for loops, want := range map[int]int{1: 5, 3: 15, 0: 100} {
		r := capture.NewReplay(f, loops)
		n, last := 0, int64(0)
		for n < 100 && r.Next(to, 0) > 0 {
			n++
			if r.OffsetNS() < last {
				t.Fatal("the offset goes back")
			}
			last = r.OffsetNS()
		}
		if n != want {
			t.Errorf("%d loops gave %d frames, want %d", loops, n, want)
		}
		if wantLast := int64(20 * time.Millisecond * time.Duration(loops)); loops > 0 && last != wantLast {
			t.Errorf("after %d loops the offset is %d, want %d", loops, last, wantLast)
		}
	}
}

func TestSetMACs(t *testing.T) {
	f, err := capture.Read("testdata/mixed.pcapng")
	must(t, err)
	frames, _ := mixed()
	f.SetMACs(frame.MAC{}, frame.MAC{9, 8, 7, 6, 5, 4})
	for i, old := range frames {
		got := f.Frame(i)
		if !bytes.Equal(got[:6], []byte{9, 8, 7, 6, 5, 4}) || !bytes.Equal(got[6:], old[6:]) {
			t.Errorf("frame %d is %x", i, got)
		}
	}
}

func TestTruncatedFramesAreCounted(t *testing.T) {
	path := pcapFile(t, layers.LinkTypeEthernet, func(w packetWriter) {
		must(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: 20, Length: 100}, make([]byte, 20)))
	})
	f, err := capture.Read(path)
	must(t, err)
	if f.Truncated != 1 {
		t.Errorf("%d truncated frames, want 1", f.Truncated)
	}
}

func TestErrors(t *testing.T) {
	short := pcapFile(t, layers.LinkTypeEthernet, func(w packetWriter) {
		must(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: 5, Length: 5}, make([]byte, 5)))
	})
	for want, path := range map[string]string{
		"neither a pcap": file(t, []byte("this is a text")),
		"too short":      file(t, nil),
		"no packets":     pcapFile(t, layers.LinkTypeEthernet, func(packetWriter) {}),
		"not Ethernet":   pcapFile(t, layers.LinkTypeRaw, func(w packetWriter) { write(t, w) }),
		"5 bytes":        short,
		"no such file":   "testdata/none.pcap",
	} {
		if _, err := capture.Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
