// Package capture reads pcap and pcapng files of Ethernet frames and replays them.
package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sluice/engine/pcap"
	"sluice/tools/pktgen/frame"
)

// File is a capture in memory.
type File struct {
	Truncated int // frames that were captured in part and are sent so

	bytes  []byte // of all frames
	frames []captured
}

type captured struct {
	end      int   // end in bytes; it begins at the end of the one before
	offsetNS int64 // when it was captured, after the first one
}

// mostBytes bounds the size of a capture. It is read as a whole, because reading costs more than
// sending.
const mostBytes = 2 << 30

// Read reads a capture file.
func Read(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	f, err := decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func decode(file io.Reader) (*File, error) {
	in, err := pcap.NewReader(file)
	if err != nil {
		return nil, err
	}
	f := &File{}
	var first time.Time
	for {
		p, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(f.frames) == 0 {
			first = p.At
		}
		if err := f.add(p, p.At.Sub(first)); err != nil {
			return nil, err
		}
	}
	if len(f.frames) == 0 {
		return nil, errors.New("it has no packets")
	}
	return f, nil
}

func (f *File) add(p pcap.Packet, offset time.Duration) error {
	const ethernetBytes = 14
	data := p.Frame
	if len(data) < ethernetBytes {
		return fmt.Errorf("packet %d has %d bytes, less than an Ethernet header", len(f.frames)+1, len(data))
	}
	if len(f.bytes)+len(data) > mostBytes {
		return fmt.Errorf("it holds more than %d MiB: cut it (editcap -c)", mostBytes>>20)
	}
	if len(data) < p.Length {
		f.Truncated++
	}
	// If the times of a file decrease, its frames are sent in the order of the file.
	if n := len(f.frames); n > 0 {
		offset = max(offset, time.Duration(f.frames[n-1].offsetNS))
	}
	f.bytes = append(f.bytes, data...)
	f.frames = append(f.frames, captured{end: len(f.bytes), offsetNS: int64(max(offset, 0))})
	return nil
}

// Frames returns the number of frames.
func (f *File) Frames() int { return len(f.frames) }

// Frame returns frame i, from 0.
func (f *File) Frame(i int) []byte {
	start := 0
	if i > 0 {
		start = f.frames[i-1].end
	}
	return f.bytes[start:f.frames[i].end]
}

// SetMACs replaces the Ethernet addresses of all frames. Zero arguments replace nothing.
func (f *File) SetMACs(source, destination frame.MAC) {
	for i := range f.frames {
		b := f.Frame(i)
		if destination != (frame.MAC{}) {
			copy(b, destination[:])
		}
		if source != (frame.MAC{}) {
			copy(b[6:], source[:])
		}
	}
}
