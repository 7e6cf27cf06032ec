package pipeline_test

import (
	"net/netip"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// TestLateReply: in one batch, a client reuses the port of an expired fullnat connection, and a
// late reply to the old connection follows. The new connection has the slot of the old one, but
// another local port, backend, backend port or source: the reply must not be matched with it.
func TestLateReply(t *testing.T) {
	all := map[string]struct {
		backends []backend
		sources  uint8 // that the first backend is reached from; 0: one
		samePort bool
	}{
		"port":           {backends: []backend{{host: 11, port: 80}}},
		"backend":        {backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}, samePort: true},
		"backend's port": {backends: []backend{{host: 11, port: 80}, {host: 11, port: 81}}, samePort: true},
		"source": {backends: []backend{{host: 11, port: 80}}, samePort: true,
			sources: 2},
	}
	for other, c := range all {
		both(t, func(t *testing.T, client, vip string) {
			w := newWorld(t)
			w.sources = []string{"10.0.0.2", "10.0.0.3"}
			if vip == vip6 {
				w.sources = []string{"2001:db8:a::2", "2001:db8:a::3"}
			}
			w.configure(svc{vip: vip, mode: service.FullNAT, backends: c.backends})
			if x := w.tables; c.sources > 0 {
				var refs []snat.Ref
				for source := range c.sources {
					ref := snat.Ref{Source: source, Proto: 6, Configured: true}
					ref.Pools = ref.NewPools(nil, w.ports, 1, 0)
					refs = append(refs, ref)
				}
				w.tables = pipeline.NewTables(x.Services, x.Backends, x.Hops, x.Sources, [][]snat.Ref{nil, refs}, nil)
			}
			web := port(vip, "80")
			open, midway := packettest.TCP(client, web).Flags(syn), packettest.TCP(client, web).Flags(ack)
			w.in(open)
			first := w.only()
			from := &w.tables.Backends[first.Backend]
			reply := packettest.TCP(netip.AddrPortFrom(from.Addr.Netip(), from.Port).String(), port(w.sources[first.Source], "1024")).Flags(ack)
			w.in(midway)
			if o := w.out(reply); o.Verdict != pipeline.Forward || !o.TookFastPath() {
				t.Fatalf("%s: a reply went %s, fast path: %t", other, o, o.TookFastPath())
			}
			w.in(packettest.TCP(client, web).Flags(rst))
			w.confirmRST()
			for i, p := range []packettest.Packet{open, midway, reply} {
				c := p.Chunk()
				w.batch.Frames[i] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}
			}
			w.procs[0].Process(w.batch, 3, w.tables, w.now)
			if f := &w.batch.Frames[1]; f.Verdict != pipeline.Forward {
				t.Errorf("%s: the second connection was not opened: %v", other, f.Reason)
			}
			if f := &w.batch.Frames[2]; f.Verdict != pipeline.Reply {
				t.Errorf("%s: the late reply: verdict %d, %v", other, f.Verdict, f.Reason)
			}
			if second := w.only(); (second.Extra == 1024) != c.samePort {
				t.Errorf("%s: after %+v came %+v, so that this shows nothing", other, first, second)
			}
		})
	}
}

// TestFramesUsedAgain: data that a Frame holds from a fullnat reply does not affect the nat reply
// that it holds next.
func TestFramesUsedAgain(t *testing.T) {
	both(t, func(t *testing.T, client, vip string) {
		w := newWorld(t)
		hosts, other := []string{"10.0.0.11", "10.0.0.12"}, "198.51.100.11"
		if vip == vip6 {
			w.sources, hosts, other = []string{"2001:db8:a::2"}, []string{"2001:db8:a::11", "2001:db8:a::12"}, "2001:db8:1::11"
		}
		w.configure(svc{vip: vip, mode: service.FullNAT, backends: []backend{{host: 11, port: 80}}}, svc{vip: other, backends: []backend{{host: 12, port: 80}}})
		f := &w.batch.Frames[0]
		for i, reply := range []packettest.Packet{
			packettest.TCP(port(hosts[0], "80"), port(w.sources[0], "1024")),
			packettest.TCP(port(hosts[1], "80"), client),
		} {
			web := port([]string{vip, other}[i], "80")
			c := new(pipeline.Batch)
			for _, p := range []packettest.Packet{packettest.TCP(client, web).Flags(syn), packettest.TCP(client, web).Flags(ack)} {
				chunk := p.Chunk()
				c.Frames[0] = pipeline.Frame{Mem: chunk.Mem, Start: chunk.Start, End: chunk.End}
				w.procs[0].Process(c, 1, w.tables, w.now)
			}
			chunk := reply.Flags(ack).Chunk()
			f.Mem, f.Start, f.End, f.Port, f.Hops = chunk.Mem, chunk.Start, chunk.End, back, 0
			w.procs[0].Process(w.batch, 1, w.tables, w.now)
			if f.Verdict != pipeline.Forward || !f.TookFastPath() {
				t.Errorf("reply %d: verdict %d, %v, fast path: %t", i, f.Verdict, f.Reason, f.TookFastPath())
			}
		}
	})
}
