package xsk

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// estate is what a holder has of a process with one socket.
type estate struct{ memory, state, socket int }

// hold copies the descriptors, as a holder does.
func hold(t *testing.T, s *Socket) estate {
	t.Helper()
	return estate{s.cfg.UMEM.FD(), s.cfg.UMEM.StateFD(), s.FD()}.copies(t)
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
func inherit(cfg Config, e estate) (*Socket, error) {
	u, err := Inherit(e.memory, e.state)
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
	t.Cleanup(func() { s.Close(); s.cfg.UMEM.Close() })
	return freeOf(newWorker(t, s.cfg.UMEM, s))
}

// freeOf leaves the worker the frames that no socket has.
func freeOf(w *worker) *worker {
	held := w.umem.Held()
	w.free = slices.DeleteFunc(w.free, func(addr uint64) bool {
		frame := addr / FrameSize
		return held[frame/64]&(1<<(frame%64)) != 0
	})
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

			s, err := inherit(p.config(nil, 0), e)
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

// killed is the number of frames and the rounds of TestKilled.
const (
	killedFrames = 200
	killedRounds = 20
)

// forward is the child process of TestKilled: it takes over a socket and sends back what it
// receives, until it is killed.
func forward() int {
	var cfg Config
	if _, err := fmt.Sscan(os.Getenv("SLUICE_XSK_PORT"), &cfg.Ifindex, &cfg.Ifname); err != nil {
		fmt.Println(err)
		return 1
	}
	cfg.RX, cfg.TX, cfg.Fill, cfg.Completion, cfg.NeedWakeup = 256, 256, 256, 256, true
	s, err := inherit(cfg, estate{memory: 3, state: 4, socket: 5})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	w := freeOf(newWorker(nil, s.cfg.UMEM, s))
	s.Resume(false)
	fmt.Println("takes over")
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); { // if it is not killed
		w.refill(s, 16)
		descs := w.kernel[:s.Receive(w.kernel)]
		for _, d := range descs[s.Transmit(descs):] {
			w.free = append(w.free, d.Addr&^(FrameSize-1))
		}
		_ = s.Kick()
		w.reclaim(s)
	}
	return 1
}

// TestKilled: processes that forward are killed, one after the other, at random moments. The next
// one finds all frames, and each once.
func TestKilled(t *testing.T) {
	l := newLab(t)
	p := l.pair(1, 1500)
	g := p.plug()
	s := l.open(p.config(newLasting(t, killedFrames), 0))
	put(t, p.steer(false), s)
	e := hold(t, s)
	die(s)
	lost := 0
	for range killedRounds {
		l.killForwarder(p, g, e)
		of := e.copies(t)
		s, err := inherit(p.config(nil, 0), of)
		if err != nil {
			t.Fatal(err)
		}
		w := freeOf(newWorker(t, s.cfg.UMEM, s))
		w.balance(0)
		lost += s.missing.count()
		die(s)
	}
	s, err := inherit(p.config(nil, 0), e)
	if err != nil {
		t.Fatal(err)
	}
	s.Resume(true)
	w := heir(t, s)
	until(t, "all frames for transmission to come back", func() bool { w.reclaim(s); return s.Sending() == 0 })
	w.balance(0)
	t.Logf("%d frames were lost by %d processes, and found", lost, killedRounds)
}

// killForwarder runs a forwarder and kills it while frames arrive.
func (l *lab) killForwarder(p *pair, g *plug, e estate) {
	l.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childRole+"=forward", fmt.Sprintf("SLUICE_XSK_PORT=%d %s", p.near, p.nearName))
	for _, fd := range []int{e.memory, e.state, e.socket} {
		again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		l.must(err)
		file := os.NewFile(uintptr(again), "held")
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	out, err := cmd.StdoutPipe()
	l.must(err)
	l.must(cmd.Start())
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "takes over\n" {
		l.t.Errorf("the child says %q", line)
	}
	for i := range uint32(500 + rand.IntN(1000)) {
		g.send(frame(60, i))
	}
	l.must(cmd.Process.Kill())
	_ = cmd.Wait() // killed
}

// copies returns copies of the descriptors, for who owns them.
func (e estate) copies(t *testing.T) (c estate) {
	t.Helper()
	for from, to := range map[int]*int{e.memory: &c.memory, e.state: &c.state, e.socket: &c.socket} {
		fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		*to = fd
	}
	return c
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
	s, err := inherit(p.config(nil, 0), e)
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
		want   string
	}{
		"more frames":   {damage: func(s *Socket) { s.cfg.UMEM.state.head[headFrames] = 2000 }, want: "are not those of 2000 frames and 1 sockets"},
		"no frames":     {damage: func(s *Socket) { s.cfg.UMEM.state.head[headFrames] = 0 }, want: "at most"},
		"too many":      {damage: func(s *Socket) { s.cfg.UMEM.state.head[headFrames] = 1 << 60 }, want: "at most"},
		"more sockets":  {damage: func(s *Socket) { s.cfg.UMEM.state.head[headPlaces] = 1 << 60 }, want: "at most"},
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
			if _, err := inherit(cfg, e); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}

// TestLeaveOut: the next process takes over one of two sockets. It opens another in place of the
// second one, of which the frames stay out of use. The process after that has all.
func TestLeaveOut(t *testing.T) {
	l := newLab(t)
	p := l.pair(2, 1500)
	const frames = 100
	u, err := NewLasting(frames, 3)
	l.must(err)
	first, second := l.open(p.config(u, 0)), l.open(p.config(u, 1))
	first.Refill([]uint64{0, FrameSize})
	second.Refill([]uint64{2 * FrameSize, 3 * FrameSize, 4 * FrameSize})
	e := hold(t, first)
	dieAll(first, second)

	u, err = Inherit(e.memory, e.state)
	l.must(err)
	if u.Frames() != frames {
		t.Errorf("%d frames, want %d", u.Frames(), frames)
	}
	first, err = u.Take(p.config(nil, 0), e.socket, 0)
	l.must(err)
	for place, ok := range map[int]bool{-1: false, 0: false, 3: false, 1: true} {
		if err := u.LeaveOut(place); (err == nil) != ok {
			t.Errorf("place %d: %v", place, err)
		}
	}
	l.must(u.Verify())
	if held := u.Held(); held[0] != 0b11111 || held[1] != 0 {
		t.Errorf("frames %b are not free, want the five of both", held)
	}
	other := l.open(p.config(u, 1))
	if other.Place() != 2 {
		t.Errorf("the new socket is at place %d, want 2", other.Place())
	}
	other.Refill([]uint64{5 * FrameSize})
	e = hold(t, first)
	third := estate{socket: other.FD()}.copies(t).socket
	dieAll(first, other)

	u, err = Inherit(e.memory, e.state)
	l.must(err)
	first, err = u.Take(p.config(nil, 0), e.socket, 0)
	l.must(err)
	other, err = u.Take(p.config(nil, 1), third, 2)
	l.must(err)
	t.Cleanup(func() { first.Close(); other.Close(); u.Close() })
	if held := u.Held(); held[0] != 0b100011 {
		t.Errorf("frames %b are not free, want those of the two sockets", held)
	}
}

// dieAll is die for sockets of one process.
func dieAll(first *Socket, others ...*Socket) {
	for _, s := range others {
		for _, m := range s.maps {
			_ = unix.Munmap(m)
		}
		unix.Close(s.fd)
		s.fd, s.maps = -1, nil
	}
	die(first)
}
