package xsk

import (
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"sluice/rings"
)

// # Taking over sockets
//
// A process that was killed leaves its sockets bound, if something has copies of their descriptors
// and of the memory's. The next process maps both, takes up the rings where their indices stand,
// and works out where each frame is:
//
//   - Each socket's set of frames lies in shared memory (state.go). A frame is added before it is
//     pushed, and removed after it was popped. So the kernel has no frame that is in no set,
//     whenever the process died: frames in no set are free, also those that were in a worker's
//     hands or on their way to another worker.
//   - A frame in a set is on a ring, with the driver, or lost: added and not yet pushed, or popped
//     and not yet removed, when the process died. How many are lost follows from indices that only
//     the dead process wrote: all in the set, less those that it put on fill and TX and did not
//     take from RX and completion.
//   - Which ones are lost shows as soon as no others are with the driver: see missingFrames. Until
//     then they stay in the set, so that no frame is given out twice.
//
// Fill is read before RX, and TX before completion, because frames move this way: one that moves
// meanwhile is seen twice, not missed.

// Inherit maps the memory of NewLasting that a former process has left, and owns both descriptors
// then, also if it fails. The caller takes over sockets with Take, calls LeaveOut for those that
// may still be open elsewhere, and calls Verify at the end.
func Inherit(fd, stateFD int) (u *UMEM, err error) {
	u = &UMEM{fd: fd}
	if err := u.inherit(stateFD); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func (u *UMEM) inherit(stateFD int) error {
	frames, places, err := readHead(stateFD)
	var of, ofState unix.Stat_t
	err = errors.Join(err, unix.Fstat(u.fd, &of), unix.Fstat(stateFD, &ofState))
	bytes := roundUp(frames * FrameSize)
	if err == nil && (of.Size != int64(bytes) || ofState.Size != int64(stateBytes(frames, places))) {
		err = fmt.Errorf("%d and %d bytes of memory are not those of %d frames and %d sockets", of.Size, ofState.Size, frames, places)
	}
	if err != nil {
		unix.Close(stateFD)
		return err
	}
	if u.state, err = mapState(stateFD, frames, places); err != nil {
		return err
	}
	if err := u.mapAll(bytes); err != nil {
		return fmt.Errorf("mapping the frames: %w", err)
	}
	u.mem, u.huge = u.mapping[:frames*FrameSize:frames*FrameSize], of.Blksize == hugeBytes
	return nil
}

// LeaveOut keeps the frames of the socket at a place out of use as long as this process runs: the
// socket is not taken over, and the kernel may use them until all copies of its descriptor are
// closed.
func (u *UMEM) LeaveOut(place int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if place < 0 || place >= len(u.state.places) || u.state.used[place] {
		return fmt.Errorf("no socket can be at place %d", place)
	}
	u.state.used[place] = true
	return nil
}

// Take takes over the bound socket fd at a place of the state, and owns it then, also if it fails.
// The configuration must be the socket's, but for busy polling.
func (u *UMEM) Take(cfg Config, fd, place int) (*Socket, error) {
	cfg.UMEM = u
	s := &Socket{cfg: cfg, fd: fd, place: -1}
	err := s.cfg.complete()
	if err == nil {
		err = s.take(place)
	}
	if err != nil {
		_, _ = s.Close()
		return nil, fmt.Errorf("%s queue %d: %w", cfg.Ifname, cfg.Queue, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sockets = append(u.sockets, s)
	return s, nil
}

func (s *Socket) take(place int) error {
	u := s.cfg.UMEM
	if place < 0 || place >= len(u.state.places) || u.state.used[place] {
		return fmt.Errorf("no socket can be at place %d", place)
	}
	words := u.state.places[place]
	for i, word := range s.cfg.words() {
		if words[i] != word {
			return errors.New("it is another interface or queue now, or opened in another way")
		}
	}
	s.owned = ownedFrames{words[placeFrames:], uint64(u.Frames())}
	waiting, err := s.mapBound()
	if err != nil {
		return err
	}
	if err := s.examine(waiting); err != nil {
		return err
	}
	s.place, u.state.used[place], s.inherited = place, true, true
	if err := s.setBusyPoll(); err != nil {
		return err
	}
	return s.readMode()
}

// waitingFrames are the entries on a socket's rings.
type waitingFrames struct {
	fill, completion []uint64
	rx, tx           []rings.Desc
}

// mapBound maps the rings of the bound socket. Kernels before 6.4 allow it only before bind.
func (s *Socket) mapBound() (w waitingFrames, err error) {
	m, err := s.mapRings()
	if errors.Is(err, unix.EBUSY) {
		return w, errors.New("its rings cannot be mapped: the kernel is older than 6.4, or the interface was replaced")
	}
	if err != nil {
		return w, err
	}
	w.fill, w.rx = m.fill.Waiting(), m.rx.Waiting()
	w.tx, w.completion = m.tx.Waiting(), m.completion.Waiting()
	return w, s.useRings(m)
}

// examine checks that the rings and the set of frames agree, and finds out what is missing.
func (s *Socket) examine(w waitingFrames) error {
	in, out := make(map[uint64]bool), make(map[uint64]bool) // for reception, for transmission
	err := errors.Join(
		s.see(in, "fill", w.fill), s.see(in, "RX", addrsOf(w.rx)),
		s.see(out, "TX", addrsOf(w.tx)), s.see(out, "completion", w.completion))
	if err != nil {
		return err
	}
	missing := make(map[uint64]bool)
	for _, addr := range s.owned.addrs() {
		switch {
		case in[addr] && out[addr]:
			return fmt.Errorf("frame %#x is for reception and for transmission", addr)
		case !in[addr] && !out[addr]:
			missing[addr] = true
		}
	}
	posted := s.fill.Index() - s.rx.Index()
	sending := s.tx.Index() - s.completion.Index()
	lost := s.owned.count() - int(posted) - int(sending)
	if lost < 0 || lost > len(missing) {
		return fmt.Errorf("%d frames, of which %d were given for reception and %d for transmission, and %d are on no ring",
			s.owned.count(), posted, sending, len(missing))
	}
	s.counters.Posted, s.counters.Transmitted = uint64(posted), uint64(sending)+uint64(lost)
	if lost > 0 {
		s.missing = &missingFrames{missing, lost}
	}
	return nil
}

// see adds a ring's frames to those that were seen.
func (s *Socket) see(seen map[uint64]bool, ring string, addrs []uint64) error {
	once := make(map[uint64]bool, len(addrs))
	for _, addr := range addrs {
		addr &^= FrameSize - 1
		if !s.owned.has(addr) {
			return fmt.Errorf("frame %#x is on the %s ring, and not the socket's", addr, ring)
		}
		if once[addr] {
			return fmt.Errorf("frame %#x is twice on the %s ring", addr, ring)
		}
		once[addr], seen[addr] = true, true
	}
	return nil
}

func addrsOf(descs []rings.Desc) []uint64 {
	addrs := make([]uint64, len(descs))
	for i, d := range descs {
		addrs[i] = d.Addr
	}
	return addrs
}

// Verify returns an error if two of the sockets have one frame.
func (u *UMEM) Verify() error {
	seen := make([]uint64, (u.Frames()+63)/64)
	u.mu.Lock()
	defer u.mu.Unlock()
	for place, used := range u.state.used {
		if !used {
			continue
		}
		for i := range seen {
			word := u.state.places[place][placeFrames+i]
			if twice := seen[i] & word; twice != 0 {
				return fmt.Errorf("frame %#x is of two sockets, one of which is at place %d", (i*64+bits.TrailingZeros64(twice))*FrameSize, place)
			}
			seen[i] |= word
		}
	}
	return nil
}

// Inherited is what was found on a socket that was taken over.
type Inherited struct {
	Received int // frames on the RX ring
	Sending  int // frames for transmission
	Lost     int // frames that were in the hands of the former process, which become free
}

// Resume makes a socket that was taken over work: it wakes both directions, once. What was received
// is discarded if it is stale.
func (s *Socket) Resume(stale bool) (found Inherited) {
	found = Inherited{s.rx.Available(), s.Sending(), s.missing.count()}
	if stale {
		descs := make([]rings.Desc, found.Received)
		s.Receive(descs)
	}
	_ = s.call(unix.SYS_RECVFROM) // what keeps it from working shows at the next call
	_ = s.call(unix.SYS_SENDTO)
	return found
}

// Place returns where the socket is in the state, -1 if it cannot be taken over.
func (s *Socket) Place() int { return s.place }

// Inherited reports whether the socket was taken over.
func (s *Socket) Inherited() bool { return s.inherited }

// Indices returns how many frames were ever taken from the RX ring and put on the TX ring, modulo
// 2^32, also by former processes. Only the worker may call it.
func (s *Socket) Indices() (rx, tx uint32) { return s.rx.Index(), s.tx.Index() }

// Sending returns how many frames the socket has for transmission. Only the worker may call it.
func (s *Socket) Sending() int { return int(s.counters.Transmitted - s.counters.Reclaimed) }

// missingFrames are the frames in a socket's set that were on no ring when the socket was taken
// over. The driver has all but some lost ones, and returns them sooner or later. So the last ones
// are the lost ones.
type missingFrames struct {
	addrs map[uint64]bool
	lost  int
}

func (m *missingFrames) count() int {
	if m == nil {
		return 0
	}
	return m.lost
}

// returned notes frames that the driver has returned.
func (m *missingFrames) returned(descs []rings.Desc) {
	for _, d := range descs {
		delete(m.addrs, d.Addr&^(FrameSize-1))
	}
}

// reclaimLost is called with the n frames in addrs that were reclaimed. It adds lost frames once
// they are known, as far as addrs has room, and returns the number of all.
func (s *Socket) reclaimLost(addrs []uint64, n int) int {
	m := s.missing
	for _, addr := range addrs[:n] {
		delete(m.addrs, addr)
	}
	if len(m.addrs) > m.lost {
		return n
	}
	for addr := range m.addrs {
		if n == len(addrs) {
			return n
		}
		delete(m.addrs, addr)
		m.lost--
		s.owned.remove(addr)
		s.counters.Reclaimed++
		addrs[n] = addr
		n++
	}
	s.missing = nil
	return n
}
