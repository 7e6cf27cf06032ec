package enginetest

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/platform"
	"sluice/rings"
)

// openQueue returns the only queue of a platform; the engine owns all its frames.
func openQueue(t *testing.T) (*Platform, *queue) {
	t.Helper()
	p := newPlatform([]int{1})
	p.RingSize, p.FramesPerQueue = 4, 16
	if _, err := p.Open(make([]conf.Port, 1), 1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, p.queue(0, 0)
}

func chunk(i int) uint64 { return uint64(i) * platform.FrameSize }

func readable(q *queue) bool {
	fds := []unix.PollFd{{Fd: int32(q.FD()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

func TestRoundOfAFrame(t *testing.T) {
	p, q := openQueue(t)
	if ok, _ := q.arrive([]byte("frame")); ok {
		t.Error("a frame was accepted without a chunk for it")
	}
	if n := q.Refill([]uint64{chunk(0), chunk(1), chunk(2), chunk(3), chunk(4)}); n != 4 {
		t.Errorf("fill ring of 4 took %d", n)
	}
	if readable(q) {
		t.Error("readable without a frame")
	}
	for range 2 {
		if ok, err := q.arrive([]byte("frame")); !ok || err != nil {
			t.Fatal("not accepted", err)
		}
	}
	descs := make([]rings.Desc, 1)
	for want := range 2 {
		if !readable(q) {
			t.Error("not readable with a frame")
		}
		if n := q.Receive(descs); n != 1 || descs[0] != (rings.Desc{Addr: chunk(want) + 256, Len: 5}) {
			t.Fatalf("received %d: %+v", n, descs)
		}
	}
	if readable(q) {
		t.Error("readable after the last frame")
	}
	if n := q.Transmit(descs); n != 1 || len(q.collect()) != 0 {
		t.Error("sent without a kick")
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	if sent := q.collect(); len(sent) != 1 || string(sent[0]) != "frame" {
		t.Errorf("sent %q", sent)
	}
	addrs := make([]uint64, 4)
	if n := q.Reclaim(addrs); n != 1 || addrs[0] != chunk(1)+256 {
		t.Errorf("completed %d: %#x", n, addrs[:n])
	}
	if s := q.stats(); s.Fill != 2 || s.Rx != 0 || s.Tx != 0 || s.Completion != 0 || s.FillRingEmpty != 1 || s.Syscalls != 1 {
		t.Errorf("%+v", s)
	}
	if b := p.ledger.breaches(); len(b) != 0 {
		t.Error(b)
	}
}

// TestLedgerFindsFaults checks that every fault of an engine is reported.
func TestLedgerFindsFaults(t *testing.T) {
	for _, test := range []struct {
		name, want string
		do         func(q *queue)
	}{
		{"refilled twice", "belongs to a fill ring", func(q *queue) { q.Refill([]uint64{chunk(0), chunk(0)}) }},
		{"refilled amid a chunk", "not the start of a chunk", func(q *queue) { q.Refill([]uint64{chunk(0) + 256}) }},
		{"beyond the UMEM", "beyond the UMEM", func(q *queue) { q.Refill([]uint64{chunk(1 << 20)}) }},
		{"sent while posted", "belongs to a fill ring", func(q *queue) {
			q.Refill([]uint64{chunk(1)})
			q.Transmit([]rings.Desc{{Addr: chunk(1), Len: 60}})
		}},
		{"sent twice", "belongs to a TX ring", func(q *queue) {
			q.Transmit([]rings.Desc{{Addr: chunk(1), Len: 60}, {Addr: chunk(1) + 14, Len: 60}})
		}},
		{"sent over the end of a chunk", "refuses", func(q *queue) { q.Transmit([]rings.Desc{{Addr: chunk(1) + 4090, Len: 60}}) }},
		{"sent with options", "refuses", func(q *queue) { q.Transmit([]rings.Desc{{Addr: chunk(1), Len: 60, Options: 1}}) }},
		{"used after the end", "closed queue", func(q *queue) {
			q.mu.Lock()
			q.closed = true
			q.mu.Unlock()
			q.Receive(nil)
			q.mu.Lock()
			q.closed = false
			q.mu.Unlock()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, q := openQueue(t)
			test.do(q)
			if got := strings.Join(p.ledger.breaches(), "; "); !strings.Contains(got, test.want) {
				t.Errorf("reported %q, want something with %q", got, test.want)
			}
		})
	}
}

// TestCompletionsHoldBackSending checks that, as in the kernel, a frame is sent only if there is
// space for its completion.
func TestCompletionsHoldBackSending(t *testing.T) {
	_, q := openQueue(t)
	for i := range 8 {
		if n := q.Transmit([]rings.Desc{{Addr: chunk(i), Len: 60}}); n != 1 {
			t.Fatalf("frame %d: the TX ring took %d", i, n)
		}
		if err := q.Kick(); err != nil {
			t.Fatal(err)
		}
	}
	if n := q.Transmit([]rings.Desc{{Addr: chunk(8), Len: 60}}); n != 0 {
		t.Error("a full TX ring took a frame")
	}
	if s := q.stats(); s.Tx != 4 || s.Completion != 4 || len(q.collect()) != 4 {
		t.Errorf("%+v", s)
	}
}
