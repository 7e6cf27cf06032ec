package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// load puts frames into a batch, each in a chunk of its own.
type load struct {
	frames [][]byte
	chunks []packettest.Chunk
}

func newLoad(frames ...[]byte) *load {
	l := &load{frames: frames}
	for _, f := range frames {
		l.chunks = append(l.chunks, packettest.Place(f))
	}
	return l
}

// fill restores the frames, which the last pass has rewritten.
func (l *load) fill(b *pipeline.Batch) int {
	for i, f := range l.frames {
		c := l.chunks[i]
		copy(c.Mem[c.Start:], f)
		b.Frames[i] = pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}
	}
	return len(l.frames)
}

// TestNothingAllocates: new and established flows, replies, drops and hand-overs allocate nothing,
// in any mode (L06).
func TestNothingAllocates(t *testing.T) {
	schedulers := service.Schedulers
	if testing.Short() {
		schedulers = schedulers[:3]
	}
	for _, mode := range []service.Mode{service.NAT, service.FullNAT, service.TUN, service.DR} {
		for _, scheduler := range schedulers {
			for _, persistMs := range []uint32{0, 300_000} {
				name := fmt.Sprint(mode, " ", scheduler, " ", persistMs > 0)
				both(t, func(t *testing.T, client, vip string) {
					s := svc{vip: vip, mode: mode, sched: scheduler, persistMs: persistMs, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
					w := newWorlds(t, 2, 1024, s)
					if vip == vip6 {
						w.sources = []string{"2001:db8:b::2"}
						w.configure(s)
					}
					w.checkAllocs(name, client, vip)
				})
			}
		}
	}
}

func (w *world) checkAllocs(name, client, vip string) {
	var mixed [][]byte
	host := packettest.Addr(client).String()
	for n := range 16 {
		from := port(host, fmt.Sprint(1000+n))
		mixed = append(mixed,
			packettest.TCP(from, port(vip, "80")).Flags(syn).Frame(),
			packettest.TCP(from, port(vip, "80")).Frame(),
			// so that the next SYN opens another one
			packettest.TCP(from, port(vip, "80")).Flags(rst).Frame(),
			packettest.TCP(port(host, fmt.Sprint(3000+n)), port(vip, "80")).Frame(),
			packettest.TCP(from, port(vip, "80")).TTL(1).Frame(),
			packettest.TCP(from, port(vip, "80")).Flags(syn|fin).Frame(),
		)
	}
	l := newLoad(mixed...)
	w.procs[0].Process(w.batch, l.fill(w.batch), w.tables, w.now)
	allocs := testing.AllocsPerRun(20, func() {
		w.now += 250
		w.procs[0].Process(w.batch, l.fill(w.batch), w.tables, w.now)
		w.procs[0].Housekeep(w.tables, w.now, 250, 4096)
	})
	if allocs != 0 {
		w.t.Errorf("%s: %v allocations per batch of %d", name, allocs, len(mixed))
	}
}
