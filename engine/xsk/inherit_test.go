package xsk

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// estate is what a holder has of a process with one socket.
type estate struct{ memory, state, socket int }

// hold copies the descriptors, as a holder does.
func hold(t *testing.T, s *Socket) estate {
	t.Helper()
	var e estate
	for from, to := range map[int]*int{s.cfg.UMEM.FD(): &e.memory, s.cfg.UMEM.StateFD(): &e.state, s.FD(): &e.socket} {
		fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		*to = fd
	}
	return e
}

// die lets go of everything without a word, as the kernel does for a process that is killed.
func die(s *Socket) {
	u := s.cfg.UMEM
	for _, m := range append(s.maps, u.mapping, u.state.mapping) {
		_ = unix.Munmap(m)
	}
	for _, fd := range []int{s.fd, u.fd, u.state.fd} {
		unix.Close(fd)
	}
	s.fd, s.maps = -1, nil
	u.sockets, u.mapping, u.state, u.fd = nil, nil, nil, -1
}

// inherit takes over a socket that was at the first place.
func inherit(cfg Config, e estate, frames int) (*Socket, error) {
	u, err := Inherit(e.memory, e.state, frames, 1)
	if err != nil {
		unix.Close(e.socket)
		return nil, err
	}
	s, err := u.Take(cfg, e.socket, 0)
	if err == nil {
		err = u.Verify()
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return s, nil
}

func newLasting(t *testing.T, frames int) *UMEM {
	t.Helper()
	u, err := NewLasting(frames, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// heir returns the worker of a socket that was taken over.
func heir(t *testing.T, s *Socket) *worker {
	t.Helper()
	w := newWorker(t, s.cfg.UMEM, s)
	held := s.cfg.UMEM.Held()
	w.free = slices.DeleteFunc(w.free, func(addr uint64) bool {
		frame := addr / FrameSize
		return held[frame/64]&(1<<(frame%64)) != 0
	})
	t.Cleanup(func() { s.Close(); s.cfg.UMEM.Close() })
	return w
}

// TestInherit: a process dies with frames on all rings and in its hands. The next one receives what
// came meanwhile, and has all frames.
func TestInherit(t *testing.T) {
	for _, generic := range []bool{false, true} {
		t.Run(fmt.Sprint("generic ", generic), func(t *testing.T) {
			l := newLab(t)
			p := l.pair(1, 1500)
			g := p.plug()
			const frames = 300
			s := l.open(p.config(newLasting(t, frames), 0))
			put(t, p.steer(generic), s)
			first := newWorker(t, s.cfg.UMEM, s)
			first.refill(s, 200)
			first.exchange(s, g, 1)
			first.write(frame(60, 2)) // stays in hand
			// The process dies before it has pushed the one, and after it has popped the other.
			s.owned.add(first.free[0])
			g.send(frame(60, 3))
			until(t, "a frame on the RX ring", func() bool { return s.rx.Available() == 1 })
			s.rx.Pop(make([]rings.Desc, 1))
			if s.Transmit([]rings.Desc{first.write(frame(100, 4))}) != 1 {
				t.Fatal("not transmitted")
			}
			e := hold(t, s)
			die(s)
			want := frame(100, 5)
			g.send(want)

			s, err := inherit(p.config(nil, 0), e, frames)
			if err != nil {
				t.Fatal(err)
			}
			second := heir(t, s)
			found := s.Resume(false)
			if found.Sending != 3 || found.Lost != 2 {
				t.Errorf("found %+v, want 3 for transmission, 2 of them lost", found)
			}
			if got := g.receive(make([]byte, 2000)); !bytes.Equal(got, frame(100, 4)) {
				t.Errorf("what stood on the TX ring arrived as % x", got)
			}
			if d := second.receive(s)[0]; !bytes.Equal(second.bytes(d), want) {
				t.Errorf("received % x, want % x", second.bytes(d), want)
			} else {
				second.free = append(second.free, d.Addr&^(FrameSize-1))
			}
			until(t, "all frames for transmission to come back", func() bool { second.reclaim(s); return s.Sending() == 0 })
			second.balance(0)
			for i := range uint32(1000) {
				second.refill(s, 1)
				second.exchange(s, g, 100+i)
			}
			second.balance(0)
			if had, _ := s.Close(); len(had)+len(second.free) != frames {
				t.Errorf("%d frames in the socket and %d free are not %d", len(had), len(second.free), frames)
			}
		})
	}
}

// TestInheritStale: what was received long ago is discarded.
func TestInheritStale(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	g := p.plug()
	s := l.open(p.config(newLasting(t, 100), 0))
	put(t, p.steer(false), s)
	newWorker(t, s.cfg.UMEM, s).refill(s, 50)
	g.send(frame(60, 1))
	g.send(frame(60, 2))
	until(t, "frames on the RX ring", func() bool { return s.rx.Available() == 2 })
	e := hold(t, s)
	die(s)
	s, err := inherit(p.config(nil, 0), e, 100)
	if err != nil {
		t.Fatal(err)
	}
	if found := s.Resume(true); found.Received != 2 || s.rx.Available() != 0 {
		t.Errorf("found %+v, and %d received frames are left", found, s.rx.Available())
	}
	w := heir(t, s)
	w.balance(0)
	w.exchange(s, g, 3)
}

// TestInheritRefuses: what does not fit, or does not add up, is not taken over, and its queue is
// free for a new socket.
func TestInheritRefuses(t *testing.T) {
	l := newLab(t)
	p := l.pair(2, 1500)
	const frames = 100
	for name, c := range map[string]struct {
		damage func(s *Socket)
		change func(cfg *Config)
		frames int
		want   string
	}{
		"more frames":   {frames: 101, want: "there are 100 frames, and 101 are needed now"},
		"more memory":   {frames: 2000, want: "there were more frames"},
		"fewer frames":  {frames: 99, want: "there are 100 frames, and 99 are needed now"},
		"another queue": {change: func(cfg *Config) { cfg.Queue = 1 }, want: "another interface or queue"},
		"another mode":  {change: func(cfg *Config) { cfg.Mode = ZeroCopy }, want: "opened in another way"},
		"other rings":   {change: func(cfg *Config) { cfg.RX = 128 }, want: "opened in another way"},
		"other version": {damage: func(s *Socket) { s.cfg.UMEM.state.head[headLayout]++ }, want: "another version"},
		"a frame that no one has": {damage: func(s *Socket) { s.owned.remove(0) },
			want: "frame 0x0 is on the fill ring, and not the socket's"},
		"a frame twice": {damage: func(s *Socket) { s.fill.Push([]uint64{FrameSize}) }, want: "frame 0x1000 is twice on the fill ring"},
		"a frame both ways": {damage: func(s *Socket) { s.tx.Push([]rings.Desc{{Addr: FrameSize, Len: 60}}) },
			want: "frame 0x1000 is for reception and for transmission"},
		"beyond the memory": {damage: func(s *Socket) { s.tx.Push([]rings.Desc{{Addr: 1 << 40, Len: 60}}) },
			want: "frame 0x10000000000 is on the TX ring, and not the socket's"},
	} {
		t.Run(name, func(t *testing.T) {
			s := l.open(p.config(newLasting(t, frames), 0))
			s.Refill([]uint64{0, FrameSize, 2 * FrameSize})
			if c.damage != nil {
				c.damage(s)
			}
			e := hold(t, s)
			die(s)
			cfg := p.config(nil, 0)
			if c.change != nil {
				c.change(&cfg)
			}
			if c.frames == 0 {
				c.frames = frames
			}
			if _, err := inherit(cfg, e, c.frames); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}
