package packettest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Diff compares two frames. It returns "" if they are equal; otherwise a text with the first bytes
// that differ and with both frames, decoded and as bytes.
func Diff(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "frames differ: want %d bytes, got %d\n", len(want), len(got))
	shown := 0
	for i := 0; i < min(len(want), len(got)) && shown < 16; i++ {
		if want[i] != got[i] {
			fmt.Fprintf(&b, "  byte %3d: want %02x, got %02x\n", i, want[i], got[i])
			shown++
		}
	}
	fmt.Fprintf(&b, "--- want\n%s--- got\n%s", Decode(want), Decode(got))
	return b.String()
}

// Decode gives the frame as text, a line for each layer, followed by a dump of its bytes. It never
// panics.
func Decode(frame []byte) (text string) {
	defer func() {
		if problem := recover(); problem != nil {
			text = fmt.Sprintf("undecodable (%v): % x\n", problem, frame)
		}
	}()
	var b strings.Builder
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	for _, l := range p.Layers() {
		fmt.Fprintf(&b, "  %s\n", gopacket.LayerString(l))
	}
	if err := CheckSums(frame); err != nil {
		fmt.Fprintf(&b, "  %v\n", err)
	}
	for i := 0; i < len(frame); i += 16 {
		fmt.Fprintf(&b, "  %04x  % x\n", i, frame[i:min(i+16, len(frame))])
	}
	return b.String()
}
