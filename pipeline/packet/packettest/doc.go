// Package packettest builds frames for tests, places them in chunks as the engine does, and
// compares them so that a failure shows what differs and what both frames say, decoded.
//
//	in := packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Flags(packet.SYN)
//	c := in.Chunk()
//	... packet.Parse(c.Mem, c.Start, c.End, &m), rewrite ...
//	want := in.To("10.0.0.11:8080").TTL(63).Frame()
//	if diff := packettest.Diff(want, c.Frame()); diff != "" { t.Error(diff) }
//
// Lengths and checksums of what it builds are right, unless a test asks for something else. It is
// slow and panics when it is asked for a packet that can't be built; only tests may import it.
package packettest
