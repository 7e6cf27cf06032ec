package pipeline_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// deterministic are the schedulers that draw nothing at random.
var deterministic = []string{"rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh"}

// scheduled is a service with four backends of different weights.
func scheduled(name string, own pipeline.Ownership) svc {
	return svc{mode: service.DR, sched: name, own: own, backends: []backend{
		{host: 11, port: 80, weight: 4}, {host: 12, port: 80}, {host: 13, port: 80, weight: 2}, {host: 14, port: 80},
	}}
}

// TestSeveralWorkersScheduleAsOne: connections that are opened one after the other get the backends
// that a single worker would give them, whichever workers open them, while others end and backends
// are drained and return.
func TestSeveralWorkersScheduleAsOne(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	t.Parallel()
	for _, name := range deterministic {
		for _, workers := range []int{2, 3, 7} {
			for _, own := range []pipeline.Ownership{pipeline.ByFlow, pipeline.ByReceiver} {
				t.Run(fmt.Sprint(name, " ", workers, " ", own), func(t *testing.T) {
					r, s := rand.New(rand.NewPCG(uint64(workers), uint64(own))), scheduled(name, own)
					one, many := newWorlds(t, 1, 4096, s), newWorlds(t, workers, 4096, s)
					at := func(n int) string { return fmt.Sprintf("192.0.2.%d:%d", 1+n%200, 1024+n) }
					for n := range steps(2000) {
						in := packettest.TCP(at(n), web4).Flags(syn).Frame()
						want, got := one.raw(0, front, in), many.raw(r.IntN(workers), front, in)
						if want.String() != "forward" || got.String() != "forward" || want.frame()[5] != got.frame()[5] {
							t.Fatalf("connection %d: %s to host %d, want %s to host %d", n, got, got.frame()[5], want, want.frame()[5])
						}
						if r.IntN(3) == 0 {
							end := packettest.TCP(at(r.IntN(n+1)), web4).Flags(rst).Frame()
							one.raw(0, front, end)
							many.raw(r.IntN(workers), front, end)
						}
						if r.IntN(50) == 0 {
							s.backends = append([]backend(nil), s.backends...)
							s.backends[r.IntN(4)].drain = r.IntN(2) == 0
							s.backends[0].drain = false
							one.configure(s)
							many.configure(s)
						}
					}
					one.sum()
					many.sum()
				})
			}
		}
	}
}

// TestSchedulersAtOnce: several workers open connections at the same moment. In sum rr and wrr are
// exact, and the others apart by the number of workers at most.
func TestSchedulersAtOnce(t *testing.T) {
	t.Parallel()
	const workers, batches, size = 4, 50, 64
	for _, name := range []string{"rr", "wrr", "lc", "wlc", "sed", "nq"} {
		t.Run(name, func(t *testing.T) {
			s := scheduled(name, pipeline.ByReceiver)
			if name != "wrr" {
				for i := range s.backends {
					s.backends[i].weight = 1
				}
			}
			w := newWorlds(t, workers, 8192, s)
			var running sync.WaitGroup
			for worker, p := range w.procs {
				running.Go(func() {
					b := new(pipeline.Batch)
					for n := range batches {
						var frames [][]byte
						for i := range size {
							from := fmt.Sprintf("192.0.%d.%d:%d", 2+worker, 1+n, 1024+i)
							frames = append(frames, packettest.TCP(from, web4).Flags(syn).Frame())
						}
						p.Process(b, newLoad(frames...).fill(b), w.tables, w.now)
					}
				})
			}
			running.Wait()
			const all = workers * batches * size
			want, spread := [4]int{all / 4, all / 4, all / 4, all / 4}, workers
			if name == "wrr" {
				want = [4]int{all / 2, all / 8, all / 4, all / 8}
			}
			if name == "rr" || name == "wrr" {
				spread = 0
			}
			var got [4]int
			for i := range got {
				for _, p := range w.procs {
					got[i] += int(p.Backends[1+i].Connections)
				}
			}
			for i := range got {
				if d := got[i] - want[i]; d > spread || -d > spread {
					t.Fatalf("%v connections, want %v and at most %d apart", got, want, spread)
				}
			}
			w.sum()
		})
	}
}

// TestTakenTuple: services that share backends cannot have the same client port at the same one. A
// connection goes to another backend then, whatever the scheduler, until there is none.
func TestTakenTuple(t *testing.T) {
	t.Parallel()
	for _, name := range service.Schedulers {
		t.Run(name, func(t *testing.T) {
			var all []svc
			for n := range 4 {
				s := nat()
				s.vip, s.sched = fmt.Sprintf("198.51.100.%d", 10+n), name
				all = append(all, s)
			}
			w := newWorld(t, all...)
			for n := range 20 {
				had := make(map[byte]bool)
				for i := range all {
					o := w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 4000+n), all[i].vip+":80").Flags(syn))
					if i == 3 {
						w.ends(o, "tuple_taken")
						continue
					}
					if w.ends(o, "forward"); had[o.frame()[5]] {
						t.Errorf("a second connection of client port %d to backend %d", 4000+n, o.frame()[5])
					}
					had[o.frame()[5]] = true
				}
			}
			w.sum()
		})
	}
}

// TestExhaustedPool: when all SNAT ports towards the picked backend are in use, a connection goes
// to another one.
func TestExhaustedPool(t *testing.T) {
	for _, name := range []string{"rr", "sh", "mh"} {
		w := newWorlds(t, 1, 1024, svc{mode: service.FullNAT, sched: name, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}})
		const ports = 100 // of each backend: see configure
		for n := range 2*ports + 1 {
			o := w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 4000+n), web4).Flags(syn))
			w.procs[0].ProveAll() // so that it does not give way
			if want := "forward"; n < 2*ports {
				w.ends(o, want)
			} else {
				w.ends(o, "snat_exhausted")
			}
		}
		w.sum()
	}
}
