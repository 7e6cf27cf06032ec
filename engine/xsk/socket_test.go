package xsk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"sluice/rings"
)

// worker is the minimum that can own frames: a stack of free ones and some sockets.
type worker struct {
	t       testing.TB
	umem    *UMEM
	free    []uint64
	sockets []*Socket
	kernel  []rings.Desc // scratch
	addrs   []uint64     // scratch
}

func newWorker(t testing.TB, u *UMEM, sockets ...*Socket) *worker {
	w := &worker{t: t, umem: u, sockets: sockets, kernel: make([]rings.Desc, 64), addrs: make([]uint64, 64)}
	for i := range u.Frames() {
		w.free = append(w.free, uint64(i)*FrameSize)
	}
	return w
}

// refill posts up to n free frames.
func (w *worker) refill(s *Socket, n int) {
	top := w.free[max(0, len(w.free)-n):]
	took := s.Refill(top)
	copy(top, top[took:])
	w.free = w.free[:len(w.free)-took]
}

func (w *worker) reclaim(s *Socket) {
	w.free = append(w.free, w.addrs[:s.Reclaim(w.addrs)]...)
}

// balance checks that every frame is in exactly one place: free, in a socket, or in hand.
func (w *worker) balance(inHand int) {
	w.t.Helper()
	sum := len(w.free) + inHand
	for _, s := range w.sockets {
		o := s.Owned()
		if o.Fill < 0 || o.RxDriver < 0 || o.RX < 0 || o.TX < 0 || o.TxDriver < 0 || o.Completion < 0 {
			w.t.Fatalf("%s: impossible %+v", s, o)
		}
		c := s.Counters()
		if held := len(s.owned.addrs()); held != o.Sum() || held != int(c.Posted-c.Received+c.Transmitted-c.Reclaimed) {
			w.t.Fatalf("%s: %d frames marked, %+v, %+v", s, held, o, c)
		}
		if c.Faults != 0 {
			w.t.Fatalf("%s: %d faults", s, c.Faults)
		}
		sum += o.Sum()
	}
	if sum != w.umem.Frames() {
		w.t.Fatalf("%d frames accounted for of %d", sum, w.umem.Frames())
	}
}

// receive waits for the next batch.
func (w *worker) receive(s *Socket) []rings.Desc {
	w.t.Helper()
	var n int
	until(w.t, "a frame on "+s.String(), func() bool { n = s.Receive(w.kernel); return n > 0 })
	return w.kernel[:n]
}

// send transmits frames and waits until all are reclaimed.
func (w *worker) send(s *Socket, descs []rings.Desc) {
	w.t.Helper()
	if n := s.Transmit(descs); n != len(descs) {
		w.t.Fatalf("%s: transmitted %d of %d", s, n, len(descs))
	}
	until(w.t, "transmission on "+s.String(), func() bool {
		if err := s.Kick(); err != nil {
			w.t.Fatal(err)
		}
		w.reclaim(s)
		o := s.Owned()
		return o.TX+o.TxDriver+o.Completion == 0
	})
}

func (w *worker) bytes(d rings.Desc) []byte { return w.umem.Mem()[d.Addr:][:d.Len] }

// write fills a free frame.
func (w *worker) write(content []byte) rings.Desc {
	addr := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	d := rings.Desc{Addr: addr + Headroom, Len: uint32(copy(w.umem.Mem()[addr+Headroom:], content)), Options: 0xdeadbeef}
	return d
}

func put(t testing.TB, m *ebpf.Map, s *Socket) {
	t.Helper()
	if err := m.Put(uint32(s.cfg.Queue), uint32(s.FD())); err != nil {
		t.Fatal(err)
	}
}

// exchange sends one frame each way and compares.
func (w *worker) exchange(s *Socket, g *plug, number uint32) {
	w.t.Helper()
	want := frame(100, number)
	g.send(want)
	d := w.receive(s)[0]
	if !bytes.Equal(w.bytes(d), want) {
		w.t.Fatalf("%s: received % x, want % x", s, w.bytes(d), want)
	}
	w.send(s, []rings.Desc{d})
	if got := g.receive(make([]byte, 2000)); !bytes.Equal(got, want) {
		w.t.Fatalf("%s: sent % x, arrived % x", s, want, got)
	}
}

// workWhile receives and sends without pause while f runs, and for a hundred turns more. It returns
// what Kick reported: at least one error.
func (w *worker) workWhile(s *Socket, something func()) (reports []error) {
	w.t.Helper()
	happened := make(chan struct{})
	go func() { defer close(happened); something() }()
	after := 0
	until(w.t, s.String()+" to report an error", func() bool {
		for _, d := range w.kernel[:s.Receive(w.kernel)] {
			w.free = append(w.free, d.Addr&^(FrameSize-1))
		}
		if o := s.Owned(); o.TX+o.TxDriver < 8 {
			if s.Transmit([]rings.Desc{w.write(frame(60, 9))}) != 1 {
				w.t.Fatal("TX ring refuses a frame")
			}
		}
		if err := s.Kick(); err != nil {
			reports = append(reports, err)
		}
		w.reclaim(s)
		w.balance(0)
		select {
		case <-happened:
			after++
		default:
		}
		return after > 100 && len(reports) > 0
	})
	return reports
}

func TestContentBothWays(t *testing.T) {
	for _, generic := range []bool{false, true} {
		t.Run(map[bool]string{false: "native", true: "generic"}[generic], func(t *testing.T) {
			l := newLab(t)
			p := l.pair(1, 1500)
			u := newUMEM(t, 512)
			s := l.open(p.config(u, 0))
			put(t, p.steer(generic), s)
			g, w := p.plug(), newWorker(t, u, s)
			w.refill(s, 128)
			for i, size := range []int{14 + 4, 60, 64, 65, 576, 1280, 1513, 1514} {
				want := frame(size, uint32(i))
				g.send(want)
				d := w.receive(s)[0]
				if d.Addr%FrameSize != Headroom || !bytes.Equal(w.bytes(d), want) {
					t.Fatalf("%d bytes: received at offset %d: % x, want % x", size, d.Addr%FrameSize, w.bytes(d), want)
				}
				w.free = append(w.free, d.Addr&^(FrameSize-1))
				w.balance(0)

				w.send(s, []rings.Desc{w.write(want)})
				if got := g.receive(make([]byte, 2000)); !bytes.Equal(got, want) {
					t.Fatalf("%d bytes: sent % x, arrived % x", size, want, got)
				}
				w.balance(0)
			}
			if s.Mode() != Copy || s.Counters().Syscalls == 0 {
				t.Errorf("mode %v, %+v", s.Mode(), s.Counters())
			}
		})
	}
}

// Ten thousand frames come in and go out again, in order, none lost, none twice. After each step
// every frame of the UMEM is accounted for. Ring indices wrap many times.
func TestTenThousandFramesBothWays(t *testing.T) {
	const total, window = 10_000, 128
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 512)
	s := l.open(p.config(u, 0))
	put(t, p.steer(false), s)
	g, w := p.plug(), newWorker(t, u, s)
	buf := make([]byte, 2000)
	sent, received, back := 0, 0, 0
	for back < total {
		w.refill(s, window)
		for ; sent < total && sent-back < window; sent++ {
			g.send(frame(60+sent%1000, uint32(sent)))
		}
		w.balance(0)
		descs := w.receive(s)
		for _, d := range descs {
			if want := frame(60+received%1000, uint32(received)); !bytes.Equal(w.bytes(d), want) {
				t.Fatalf("frame %d: received % x, want % x", received, w.bytes(d)[:24], want[:24])
			}
			received++
		}
		w.balance(len(descs))
		w.send(s, descs)
		w.balance(0)
		for ; back < received; back++ {
			if got, want := g.receive(buf), frame(60+back%1000, uint32(back)); !bytes.Equal(got, want) {
				t.Fatalf("frame %d: came back as % x, want % x", back, got[:24], want[:24])
			}
		}
	}
	c := s.Counters()
	if c.Received != total || c.Transmitted != total || c.Reclaimed != total {
		t.Errorf("%+v, want %d received, transmitted and reclaimed", c, total)
	}
	if k, err := s.Statistics(); err != nil || k.RxDropped+k.RxInvalid+k.TxInvalid+k.RxRingFull != 0 {
		t.Errorf("%+v, %v, want no losses", k, err)
	}
	if c.Syscalls > c.Kicks*(window/32+1) {
		t.Errorf("%d system calls for %d kicks of at most %d frames", c.Syscalls, c.Kicks, window)
	}
	t.Logf("%d frames each way: %d kicks, %d system calls", total, c.Kicks, c.Syscalls)
}

// A frame received on one port leaves on the other from the same chunk: only the descriptor moves
// to another ring.
func TestForwardBetweenPortsWithoutCopy(t *testing.T) {
	const total = 1000
	l := newLab(t)
	p, q := l.pair(1, 1500), l.pair(1, 1500)
	u := newUMEM(t, 256)
	a, b := l.open(p.config(u, 0)), l.open(q.config(u, 0))
	if !a.registered || b.registered {
		t.Errorf("registrations: first socket %v, second %v, want the second to join the first", a.registered, b.registered)
	}
	put(t, p.steer(false), a)
	put(t, q.steer(false), b)
	in, out, w := p.plug(), q.plug(), newWorker(t, u, a, b)
	buf := make([]byte, 2000)
	for i := uint32(0); i < total; {
		w.refill(a, 64)
		for j := range uint32(50) {
			in.send(frame(200, i+j))
		}
		for n := uint32(0); n < 50; {
			descs := slices.Clone(w.receive(a))
			w.send(b, descs)
			for _, d := range descs {
				want := frame(200, i+n)
				if !bytes.Equal(w.bytes(d), want) || !bytes.Equal(out.receive(buf), want) {
					t.Fatalf("frame %d differs on its way through chunk %#x", i+n, d.Addr)
				}
				n++
			}
			w.balance(0)
		}
		i += 50
	}
	if a.Counters().Received != total || b.Counters().Transmitted != total {
		t.Errorf("%+v, %+v", a.Counters(), b.Counters())
	}
}

// Two queues of two ports each: a frame sent on queue i arrives on queue i, because veth keeps the
// queue number.
func TestTwoQueues(t *testing.T) {
	l := newLab(t)
	p, q := l.pair(2, 1500), l.pair(2, 1500)
	u := newUMEM(t, 1024)
	w := newWorker(t, u)
	for _, link := range []*pair{p, q} {
		sockets := link.steer(false)
		for queue := range 2 {
			s := l.open(link.config(u, queue))
			put(t, sockets, s)
			w.sockets = append(w.sockets, s)
			w.refill(s, 128)
		}
	}
	// The far ends are sockets, too, on a UMEM of their own.
	farUMEM := newUMEM(t, 256)
	for i, link := range []*pair{p, q} {
		for queue := range 2 {
			cfg := link.config(farUMEM, queue)
			cfg.Ifindex, cfg.Ifname = link.far, link.farName
			var far *Socket
			l.must(in(l.far, func() (err error) { far, err = Open(cfg); return err }))
			t.Cleanup(func() { far.Close() })
			sender := newWorker(t, farUMEM, far)
			for n := range uint32(20) {
				sender.send(far, []rings.Desc{sender.write(frame(100, n))})
			}
			s := w.sockets[2*i+queue]
			for n := uint32(0); n < 20; {
				for _, d := range w.receive(s) {
					if !bytes.Equal(w.bytes(d), frame(100, n)) {
						t.Fatalf("%s: frame %d differs", s, n)
					}
					w.free = append(w.free, d.Addr&^(FrameSize-1))
					n++
				}
			}
			far.Close()
		}
	}
	w.balance(0)
	for _, s := range w.sockets {
		if s.Counters().Received != 20 {
			t.Errorf("%s received %d frames, want 20", s, s.Counters().Received)
		}
	}
}

// A queue's socket is closed and opened again while a neighbour continues. Then the neighbour,
// which registered the UMEM, closes.
func TestReopenFiftyTimes(t *testing.T) {
	l := newLab(t)
	p, q := l.pair(1, 1500), l.pair(1, 1500)
	u := newUMEM(t, 256)
	a := l.open(p.config(u, 0))
	sockets := p.steer(false)
	put(t, sockets, a)
	steered := q.steer(false)
	w := newWorker(t, u, a)
	w.refill(a, 64)
	g, h := p.plug(), q.plug()
	for i := range uint32(50) {
		b := l.open(q.config(u, 0))
		w.sockets = []*Socket{a, b}
		put(t, steered, b)
		w.refill(b, 64)
		w.exchange(b, h, i)
		if i%10 == 0 {
			w.exchange(a, g, i)
		}
		w.balance(0)
		frames, err := b.Close()
		if err != nil || len(frames) != 63 {
			t.Fatalf("round %d: Close gave %d frames, want 63, and %v", i, len(frames), err)
		}
		w.free = append(w.free, frames...)
	}
	b := l.open(q.config(u, 0))
	put(t, steered, b)
	w.sockets = []*Socket{a, b}
	w.refill(b, 64)
	for i := range uint32(5) {
		frames, err := a.Close()
		l.must(err)
		w.free = append(w.free, frames...)
		w.exchange(b, h, i)
		a = l.open(p.config(u, 0))
		put(t, sockets, a)
		w.sockets[0] = a
		w.refill(a, 64)
		w.refill(b, 64)
		w.exchange(a, g, i)
		w.balance(0)
	}
	if a.registered {
		t.Error("reopened socket did not join the one that lives")
	}
}

func TestLinkDown(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 256)
	s := l.open(p.config(u, 0))
	put(t, p.steer(false), s)
	g, w := p.plug(), newWorker(t, u, s)
	w.refill(s, 64)
	w.exchange(s, g, 1)

	p.setUp(false)
	want := frame(80, 2)
	if n := s.Transmit([]rings.Desc{w.write(want)}); n != 1 {
		t.Fatalf("transmitted %d of 1", n)
	}
	err := s.Kick()
	if !errors.Is(err, unix.ENETDOWN) || !strings.Contains(err.Error(), p.nearName+" queue 0") {
		t.Fatalf("Kick on a link that is down: %v", err)
	}
	before := s.Counters().Syscalls
	for range 100 {
		if err := s.Kick(); err != nil {
			t.Fatalf("Kick reported twice: %v", err)
		}
	}
	if calls := s.Counters().Syscalls - before; calls > 100 {
		t.Errorf("%d system calls for 100 kicks", calls)
	}
	w.balance(0)

	p.setUp(true)
	until(t, "the queued frame to be sent", func() bool {
		l.must(s.Kick())
		w.reclaim(s)
		return s.Owned().TX == 0
	})
	if got := g.receive(make([]byte, 2000)); !bytes.Equal(got, want) {
		t.Errorf("after link up arrived % x, want % x", got, want)
	}
	w.exchange(s, g, 3)
	w.balance(0)
	p.setUp(false)
	s.Transmit([]rings.Desc{w.write(want)})
	if err := s.Kick(); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("link down again: Kick gave %v, want a new report", err)
	}
}

// The interface is deleted under a working socket. The worker sees one error only, Close returns
// all frames, a neighbour on the same UMEM continues, and a new interface of the same name can be
// opened although the registration's first socket is dead.
func TestLinkDeletedAndRecreated(t *testing.T) {
	l := newLab(t)
	p, q := l.pair(1, 1500), l.pair(1, 1500)
	u := newUMEM(t, 256)
	a, b := l.open(p.config(u, 0)), l.open(q.config(u, 0))
	put(t, p.steer(false), a)
	put(t, q.steer(false), b)
	g, h, w := p.plug(), q.plug(), newWorker(t, u, a, b)
	w.refill(a, 64)
	w.refill(b, 64)
	w.exchange(a, g, 1)
	w.exchange(b, h, 1)

	reports := w.workWhile(a, p.remove)
	// The link goes down before it is removed, and the worker may see both.
	last := reports[len(reports)-1]
	if len(reports) > 2 || !errors.Is(last, unix.ENXIO) || !strings.Contains(last.Error(), "gone") {
		t.Errorf("reports %v, want at most two, the last ENXIO", reports)
	}

	w.exchange(b, h, 2)
	// The only peer is dead: the new socket must register for itself.
	frames, err := b.Close()
	l.must(err)
	w.free = append(w.free, frames...)
	b = l.open(q.config(u, 0))
	if !b.registered {
		t.Error("socket joined one of a deleted interface")
	}
	put(t, q.sockets, b)
	w.sockets[1] = b
	w.refill(b, 64)
	w.exchange(b, h, 3)

	frames, err = a.Close()
	l.must(err)
	w.free = append(w.free, frames...)
	w.sockets = w.sockets[1:]
	w.balance(0)
	if _, err := l.tryOpen(p.config(u, 0)); !errors.Is(err, unix.ENODEV) {
		t.Errorf("opening a deleted interface: %v", err)
	}
	p.create(1500)
	a = l.open(p.config(u, 0))
	put(t, p.steer(false), a)
	w.sockets = append(w.sockets, a)
	w.refill(a, 64)
	w.exchange(a, p.plug(), 4)
	w.exchange(b, h, 5)
	w.balance(0)
}

func TestBusyQueue(t *testing.T) {
	l := newLab(t)
	p := l.pair(2, 1500)
	holder := l.open(p.config(newUMEM(t, 64), 1))
	u := newUMEM(t, 64)
	cfg := p.config(u, 1)
	cfg.BusyWait = 20 * time.Millisecond
	_, err := l.tryOpen(cfg)
	if !errors.Is(err, unix.EBUSY) || errors.Is(err, ErrModeUnsupported) {
		t.Fatalf("error %v, want EBUSY", err)
	}
	for _, want := range []string{p.nearName + " queue 1", "another socket holds the queue", "ss -p --xdp"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q doesn't contain %q", err, want)
		}
	}
	// The same with a second socket of one UMEM, and with a registration to join.
	l.open(p.config(u, 0))
	if _, err := l.tryOpen(cfg); !errors.Is(err, unix.EBUSY) {
		t.Errorf("with a peer to join: %v, want EBUSY", err)
	}
	mine := p.config(u, 0)
	mine.BusyWait = -1
	if _, err := l.tryOpen(mine); !errors.Is(err, unix.EBUSY) {
		t.Errorf("queue held by the same UMEM: %v, want EBUSY", err)
	}
	// Open waits for a holder that closes meanwhile.
	cfg.BusyWait = waitLimit
	done := make(chan error)
	go func() {
		s, err := l.tryOpen(cfg)
		if err == nil {
			_, err = s.Close()
		}
		done <- err
	}()
	if _, err := holder.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after the holder closed: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	l := newLab(t)
	p, large := l.pair(2, 1500), l.pair(1, 9000)
	u := newUMEM(t, 64)
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
		errno  unix.Errno
		mode   bool
	}{
		"queue": {func(c *Config) { c.Queue = 2 },
			[]string{"near1 queue 2", "2 RX and 2 TX queues", "allowed: 0 to 1", "ethtool -l"}, unix.EINVAL, false},
		"negative queue": {func(c *Config) { c.Queue = -1 }, []string{"numbered from 0"}, 0, false},
		"MTU": {func(c *Config) { *c = large.config(u, 0) },
			[]string{"near2 queue 0", "MTU 9000", "at most 3822", "mtu 1500"}, unix.EINVAL, false},
		"zero-copy":       {func(c *Config) { c.Mode = ZeroCopy }, []string{"zerocopy"}, unix.EOPNOTSUPP, true},
		"no interface":    {func(c *Config) { c.Ifindex = 9999 }, []string{"gone"}, unix.ENODEV, false},
		"ring size":       {func(c *Config) { c.Fill = 100 }, []string{"fill ring of 100", "powers of two"}, 0, false},
		"ring too large":  {func(c *Config) { c.TX = 1 << 20 }, []string{"TX ring", "65536"}, 0, false},
		"no UMEM":         {func(c *Config) { c.UMEM = nil }, []string{"the UMEM is missing or closed"}, 0, false},
		"negative memory": {func(c *Config) { c.RX = -2 }, []string{"RX ring of -2"}, 0, false},
	} {
		cfg := p.config(u, 0)
		c.change(&cfg)
		s, err := l.tryOpen(cfg)
		if err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q doesn't contain %q", name, err, want)
			}
		}
		if c.errno != 0 && !errors.Is(err, c.errno) || errors.Is(err, ErrModeUnsupported) != c.mode {
			t.Errorf("%s: error chain of %v: want %v, mode unsupported %v", name, err, c.errno, c.mode)
		}
	}
	// No failed Open left the queue busy.
	l.open(p.config(u, 0))
	l.open(p.config(u, 1))
}

// The largest MTU that is accepted can be received in full.
func TestLargestMTU(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, MaxMTU)
	u := newUMEM(t, 256)
	s := l.open(p.config(u, 0))
	put(t, p.steer(true), s) // veth's native mode accepts smaller frames only
	g, w := p.plug(), newWorker(t, u, s)
	w.refill(s, 64)
	want := frame(MaxMTU+ethernetBytes, 1)
	g.send(want)
	d := w.receive(s)[0]
	if !bytes.Equal(w.bytes(d), want) {
		t.Fatalf("received %d bytes of %d or others", d.Len, len(want))
	}
	w.send(s, []rings.Desc{d})
	if got := g.receive(make([]byte, 5000)); !bytes.Equal(got, want) {
		t.Fatalf("sent %d bytes, arrived %d or others", len(want), len(got))
	}
}

// Frames that the caller does not own are refused and counted, and disturb no other frame.
func TestFaultyGiver(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 70)
	s := l.open(p.config(u, 0))
	put(t, p.steer(false), s)
	const a, b = 3 * FrameSize, 4 * FrameSize
	end := uint64(u.Frames()) * FrameSize
	if n := s.Refill([]uint64{a, a, end, ^uint64(0), a + 5, b + 17}); n != 6 {
		t.Fatalf("Refill took %d of 6", n)
	}
	if c := s.Counters(); c.Posted != 2 || c.Faults != 4 || s.Owned().Sum() != 2 {
		t.Fatalf("%+v, %+v, want 2 posted, 4 faults", c, s.Owned())
	}
	for name, bad := range map[string]rings.Desc{
		"empty":              {Addr: 5 * FrameSize},
		"across its end":     {Addr: 5*FrameSize + 4000, Len: 97},
		"posted already":     {Addr: a, Len: 60},
		"outside":            {Addr: end, Len: 60},
		"far outside":        {Addr: ^uint64(0) - 4095, Len: 60},
		"longer than chunks": {Addr: 5 * FrameSize, Len: ^uint32(0)},
	} {
		before := s.Counters()
		good := rings.Desc{Addr: 6 * FrameSize, Len: 60}
		if n := s.Transmit([]rings.Desc{bad, good}); n != 0 {
			t.Errorf("%s: took %d, want 0", name, n)
		}
		if c := s.Counters(); c.Faults != before.Faults+1 || c.Transmitted != before.Transmitted {
			t.Errorf("%s: %+v, before %+v", name, c, before)
		}
	}
	if n := s.Transmit([]rings.Desc{{Addr: 6*FrameSize + 4000, Len: 96}, {Addr: 6 * FrameSize, Len: 60}}); n != 1 {
		t.Errorf("took %d, want the good one before the duplicate", n)
	}
	frames, err := s.Close()
	if want := []uint64{a, b, 6 * FrameSize}; err != nil || !slices.Equal(frames, want) {
		t.Errorf("Close gave %v, %v, want %v", frames, err, want)
	}
}

func TestClosedSocketDoesNothing(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 64)
	s := l.open(p.config(u, 0))
	s.Refill([]uint64{0, FrameSize})
	if err := u.Close(); err == nil || !strings.Contains(err.Error(), p.nearName+" queue 0") {
		t.Errorf("UMEM closed under a socket: %v", err)
	}
	if frames, err := s.Close(); len(frames) != 2 || err != nil {
		t.Errorf("Close gave %v, %v, want 2 frames", frames, err)
	}
	if frames, err := s.Close(); frames != nil || err != nil {
		t.Errorf("second Close gave %v, %v", frames, err)
	}
	descs := []rings.Desc{{Addr: 256, Len: 60}}
	if n := s.Receive(descs) + s.Refill([]uint64{0}) + s.Transmit(descs) + s.Reclaim(make([]uint64, 4)); n != 0 {
		t.Errorf("a closed socket moved %d frames", n)
	}
	if err := s.Kick(); err != nil || s.FD() != -1 || s.Owned().Sum() != 0 {
		t.Errorf("Kick %v, FD %d, %+v", err, s.FD(), s.Owned())
	}
	if _, err := s.Statistics(); err == nil {
		t.Error("statistics of a closed socket")
	}
}

// The design in doc.go depends on this: the kernel lets no socket join one that only registered the
// memory, and a failed attempt leaves the joiner free to register for itself.
func TestKernelRefusesToJoinUnboundSocket(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 64)
	l.must(in(l.near, func() error {
		keeper, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(keeper)
		if err := registerUMEM(keeper, u.mem); err != nil {
			return err
		}
		// keeper looks like an open socket of the same mode on another queue.
		u.sockets = append(u.sockets, &Socket{fd: keeper, cfg: Config{Ifindex: p.near, Queue: 7, NeedWakeup: true}})
		defer func() { u.sockets = u.sockets[:0] }()
		s, err := Open(p.config(u, 0))
		if err != nil {
			return err
		}
		defer s.Close()
		if !s.registered {
			t.Error("the kernel let a socket join an unbound one")
		}
		return nil
	}))
}

// A worker that does not keep up and one that posts no frames show in the kernel's statistics.
func TestStatistics(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 256)
	cfg := p.config(u, 0)
	cfg.RX = 16
	s := l.open(cfg)
	put(t, p.steer(true), s)
	g, w := p.plug(), newWorker(t, u, s)
	wait := func(what string, event func(Statistics) bool) {
		t.Helper()
		until(t, what, func() bool {
			g.send(frame(60, 0))
			k, err := s.Statistics()
			l.must(err)
			return event(k)
		})
	}
	wait("fill ring empty", func(k Statistics) bool { return k.RxFillRingEmpty > 0 && k.RxDropped > 0 })
	w.refill(s, 64)
	wait("RX ring full", func(k Statistics) bool { return k.RxRingFull > 0 })
	if n := len(w.receive(s)); n != 16 {
		t.Errorf("received %d from a full ring of 16", n)
	}
}

func TestBusyPoll(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 256)
	cfg := p.config(u, 0)
	cfg.BusyPoll = BusyPoll{Usec: 20, Budget: 64}
	s := l.open(cfg)
	put(t, p.steer(false), s)
	g, w := p.plug(), newWorker(t, u, s)
	w.refill(s, 64)
	for i := range uint32(10) {
		w.exchange(s, g, i)
	}
	before := s.Counters().Syscalls
	if s.Receive(w.kernel) != 0 || s.Counters().Syscalls != before+1 {
		t.Error("an empty Receive doesn't poll the device")
	}
}

// Without busy polling, receiving and an idle Kick make no system call in copy mode.
func TestIdleMakesNoSystemCalls(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	u := newUMEM(t, 256)
	s := l.open(p.config(u, 0))
	w := newWorker(t, u, s)
	allocs := testing.AllocsPerRun(100, func() {
		s.Receive(w.kernel)
		s.Kick()
		s.Reclaim(w.addrs)
		s.Transmit(nil)
		s.Refill(nil)
		w.refill(s, 1)
	})
	if c := s.Counters(); c.Syscalls != 0 || c.Kicks != 0 || allocs != 0 {
		t.Errorf("%+v, %v allocations", c, allocs)
	}
}

func TestQueues(t *testing.T) {
	l := newLab(t)
	p := l.pair(3, 1500)
	l.must(in(l.near, func() error {
		for name, want := range map[string]int{p.nearName: 3, "lo": 1} {
			rx, tx, err := Queues(name)
			if err != nil || rx != want || tx != want {
				return fmt.Errorf("%s: %d RX, %d TX queues, %w, want %d", name, rx, tx, err, want)
			}
		}
		if _, _, err := Queues("absent"); err == nil || !strings.Contains(err.Error(), "absent") {
			return fmt.Errorf("absent interface: %w", err)
		}
		return nil
	}))
}

func TestUMEM(t *testing.T) {
	u, err := NewUMEM(3, -1)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Mem()) != 3*FrameSize || cap(u.Mem()) != 3*FrameSize || u.Frames() != 3 {
		t.Errorf("%d bytes, capacity %d, %d frames", len(u.Mem()), cap(u.Mem()), u.Frames())
	}
	t.Logf("huge pages: %v", u.HugePages())
	u.Mem()[3*FrameSize-1] = 1
	if err := errors.Join(u.Close(), u.Close()); err != nil {
		t.Error(err)
	}
	if _, err := Open(Config{UMEM: u}); err == nil || !strings.Contains(err.Error(), "UMEM") {
		t.Errorf("socket on a closed UMEM: %v", err)
	}
	for _, n := range []int{0, -1, maxFrames + 1} {
		if _, err := NewUMEM(n, -1); err == nil {
			t.Errorf("UMEM of %d frames", n)
		}
	}
}
