package takeover

import (
	"math/rand/v2"
	"testing"

	"sluice/engine/worker"
	"sluice/pipeline/counter"
)

// worldOfWorkers does what workers do with frames, one store at a time, and knows where each frame
// is.
type worldOfWorkers struct {
	workers          []*counters
	rxIndex, txIndex []uint32 // of each worker's queue
	handed           [][]int  // rings between workers, by receiver: frames of each push
	over             int      // frames that are sent, dropped or the kernel's
	stores           int      // until the death
}

// store makes one store; false: the process is dead.
func (w *worldOfWorkers) store(f func()) bool {
	if w.stores == 0 {
		return false
	}
	w.stores--
	f()
	return true
}

// turn is one turn of a worker.
func (w *worldOfWorkers) turn(id int, r *rand.Rand) {
	c := w.workers[id]
	q, p := &c.queues[0], &c.Packets
	taken, handedIn := r.IntN(8), 0
	for len(w.handed[id]) > 0 && r.IntN(2) == 0 {
		handedIn += w.handed[id][0]
		w.handed[id] = w.handed[id][1:]
	}
	if !w.store(func() { w.rxIndex[id] += uint32(taken) }) || !w.store(func() { q.Rx += uint64(taken) }) {
		return
	}
	out := map[*uint64]int{} // to send, by what they were counted as
	handOut := 0
	for i := range taken + handedIn {
		if i >= taken && !w.store(func() { p.HandedIn++ }) {
			return
		}
		done := false
		switch r.IntN(5) {
		case 0:
			done = w.store(func() { p.Drops[counter.NoConnection]++; w.over++ })
		case 1:
			done = w.store(func() { p.ToKernel++; w.over++ })
		case 2:
			done = w.store(func() { p.Replied++ })
			out[&p.Replied]++
		case 3:
			if i < taken && len(w.workers) > 1 {
				done = w.store(func() { p.HandedOut++ })
				handOut++
				break
			}
			fallthrough
		default:
			done = w.store(func() { p.Forwarded++ })
			out[&p.Forwarded]++
		}
		if !done {
			return
		}
	}
	if !w.store(func() { p.Rx += uint64(taken) }) {
		return
	}
	if handOut > 0 {
		to := (id + 1) % len(w.workers)
		if !w.store(func() { w.handed[to] = append(w.handed[to], handOut) }) {
			return
		}
	}
	for _, counted := range []*uint64{&p.Forwarded, &p.Replied} {
		n := out[counted]
		full := r.IntN(n + 1) // of these no place is on the ring
		if !w.store(func() { w.txIndex[id] += uint32(n - full); w.over += n - full }) || !w.store(func() { q.Tx += uint64(n - full) }) {
			return
		}
		for range full {
			if !w.store(func() { *counted-- }) || !w.store(func() { p.Drops[counter.TxFull]++; w.over++ }) {
				return
			}
		}
	}
}

// TestLose: workers are killed at a random store. The counters add up then, and what was lost is
// what was received and is neither sent nor dropped nor the kernel's.
func TestLose(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := worldOfWorkers{stores: r.IntN(300)}
		for range 1 + r.IntN(3) {
			start := r.Uint32() // of the indices: they wrap, and went on from a former process
			w.workers = append(w.workers, &counters{queues: []worker.QueueTotals{{RxIndex: uint64(start), TxIndex: uint64(start + 7)}}})
			w.rxIndex, w.txIndex, w.handed = append(w.rxIndex, start), append(w.txIndex, start+7), append(w.handed, nil)
		}
		for w.stores > 0 {
			w.turn(r.IntN(len(w.workers)), r)
		}
		received := uint64(0)
		for id, c := range w.workers {
			c.queues[0].Settle(w.rxIndex[id], w.txIndex[id])
			received += c.queues[0].Rx
		}
		lost := lose(w.workers, true)
		var sum counter.Packets
		for _, c := range w.workers {
			sum.Add(&c.Packets)
		}
		if sum.Rx != received || sum.Rx != sum.Forwarded+sum.Replied+sum.ToKernel+sum.Dropped()+sum.LostInCrash || sum.HandedIn != sum.HandedOut {
			t.Fatalf("seed %d: %+v do not add up", seed, sum)
		}
		if want := received - uint64(w.over); lost != want || sum.LostInCrash != want {
			t.Fatalf("seed %d: %d and %d were lost, want %d", seed, lost, sum.LostInCrash, want)
		}
	}
}

// TestReaderByName: values are found by their names, whatever else and in whatever order the former
// process counted.
func TestReaderByName(t *testing.T) {
	of := []string{".OutBytes", ".Unknown", ".Connections"}
	got := readerOf[counter.Backend](of).read(words{8: 2, 16: 3, 0: 1, 23: 0})
	if got != (counter.Backend{OutBytes: 1, Connections: 3}) {
		t.Errorf("%+v", got)
	}
	if got := readerOf[counter.Backend](of).read(words{8: 2}); got != (counter.Backend{}) {
		t.Errorf("from too little: %+v", got)
	}
}
