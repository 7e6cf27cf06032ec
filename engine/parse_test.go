package engine_test

import (
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// parse reads a frame that is known to be right.
func parse(t *testing.T, frame []byte) packet.Meta {
	t.Helper()
	c := packettest.Place(frame)
	var m packet.Meta
	if reason := packet.Parse(c.Mem, c.Start, c.End, &m); reason != counter.None {
		t.Fatalf("unreadable frame (%v):\n%s", reason, packettest.Decode(frame))
	}
	return m
}
