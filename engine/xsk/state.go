package xsk

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// state is what the next process must know of the frames of NewLasting, in memory of its own, which
// never needs a huge page: a head, and a place for each socket, with what the socket is and which
// frames it has.
type state struct {
	fd      int
	mapping []byte
	head    []uint64
	places  [][]uint64
	used    []bool // places of open sockets; UMEM.mu guards it
}

// Words of the head.
const (
	headLayout = iota
	headFrames
	headPlaces
	headAlive // CLOCK_MONOTONIC in ns when the process last said that it lives
	headWords = FrameSize / 8
)

// maxPlaces is more sockets than any machine has.
const maxPlaces = 1 << 16

// Words of a place: what the socket is, and then one bit per frame.
const (
	placeIfindex = iota
	placeQueue
	placeMode
	placeRXTX
	placeFillCompletion
	placeFrames = 8
)

// stateLayout changes whenever the state or the use of frames does. It has the size of frames.
const stateLayout = 0x736c_7569_6365<<16 | 1<<13 | FrameSize

// placeWords returns the size of a place. Places share no cache lines, nor pairs of them.
func placeWords(frames int) int { return (placeFrames + (frames+63)/64 + 15) &^ 15 }

// stateBytes returns the size of a state.
func stateBytes(frames, places int) int { return 8 * (headWords + places*placeWords(frames)) }

// newState returns the state of a process without sockets.
func newState(frames, places int) (*state, error) {
	fd, err := unix.MemfdCreate("sluice", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.Ftruncate(fd, int64(stateBytes(frames, places))); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s, err := mapState(fd, frames, places)
	if err == nil {
		s.head[headLayout], s.head[headFrames], s.head[headPlaces] = stateLayout, uint64(frames), uint64(places)
	}
	return s, err
}

// mapState maps the state behind fd, and owns fd then, also if it fails. This process becomes the
// only one that writes to it.
func mapState(fd, frames, places int) (*state, error) {
	s := &state{fd: fd, used: make([]bool, places)}
	err := lock(fd)
	if err == nil {
		s.mapping, err = unix.Mmap(fd, 0, stateBytes(frames, places), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	words := wordsOf(s.mapping)
	s.head = words[:headWords]
	for place := range slices.Chunk(words[headWords:], placeWords(frames)) {
		s.places = append(s.places, place)
	}
	return s, nil
}

// close frees the memory, unless others have it.
func (s *state) close() error {
	if s == nil {
		return nil
	}
	return errors.Join(unix.Munmap(s.mapping), unix.Close(s.fd))
}

// readHead returns how many frames the state behind fd is of, and how many places it has.
func readHead(fd int) (frames, places int, err error) {
	head := make([]byte, 8*headWords)
	if n, err := unix.Pread(fd, head, 0); err != nil || n < len(head) {
		return 0, 0, errors.Join(fmt.Errorf("%d bytes are not the state of frames", n), err)
	}
	words := wordsOf(head)
	if words[headLayout] != stateLayout {
		return 0, 0, fmt.Errorf("frames are laid out as by another version (%#x, not %#x)", words[headLayout], uint64(stateLayout))
	}
	if words[headFrames]-1 >= maxFrames || words[headPlaces] > maxPlaces {
		return 0, 0, fmt.Errorf("the state of %d frames and %d sockets: at most %d and %d are possible",
			words[headFrames], words[headPlaces], maxFrames, maxPlaces)
	}
	return int(words[headFrames]), int(words[headPlaces]), nil
}

// newOwned returns the set of frames of a socket that is opened: empty, at a free place of the
// state if there is one.
func (u *UMEM) newOwned(cfg *Config) (owned ownedFrames, place int) {
	if u.state == nil {
		return newOwnedFrames(u.Frames()), -1
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	place = slices.Index(u.state.used, false)
	if place < 0 {
		return newOwnedFrames(u.Frames()), -1
	}
	u.state.used[place] = true
	words := u.state.places[place]
	clear(words)
	copy(words, cfg.words())
	return ownedFrames{words[placeFrames:], uint64(u.Frames())}, place
}

// freePlace lets another socket have a place.
func (u *UMEM) freePlace(place int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if place >= 0 {
		u.state.used[place] = false
	}
}

// words returns what a socket of this configuration is, as it stands at its place.
func (cfg *Config) words() []uint64 {
	mode := uint64(cfg.Mode) + 1
	if cfg.NeedWakeup {
		mode |= 1 << 8
	}
	return []uint64{
		placeIfindex: uint64(cfg.Ifindex), placeQueue: uint64(cfg.Queue), placeMode: mode,
		placeRXTX: uint64(cfg.RX)<<32 | uint64(cfg.TX), placeFillCompletion: uint64(cfg.Fill)<<32 | uint64(cfg.Completion),
	}
}

// Live notes that the process lives. It is called from time to time, from one goroutine.
func (u *UMEM) Live() { atomic.StoreUint64(&u.state.head[headAlive], monotonic()) }

// Release lets another process take over the memory and its sockets while this one lives: no worker
// runs. Regain undoes it.
func (u *UMEM) Release() error {
	if u.state == nil {
		return errors.New("the frames cannot be taken over by another process")
	}
	u.Live()
	return unix.FcntlFlock(uintptr(u.state.fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

// Regain undoes Release. It is an error if another process has taken over the memory.
func (u *UMEM) Regain() error {
	if u.state == nil {
		return nil
	}
	return lock(u.state.fd)
}

// Away returns how long no process has lived that has this memory.
func (u *UMEM) Away() time.Duration {
	return time.Duration(monotonic() - atomic.LoadUint64(&u.state.head[headAlive]))
}

func monotonic() uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails
	return uint64(now.Nano())
}

// Held returns which frames are not free, one bit per frame: those that sockets have, and those of
// LeaveOut. The workers do not run yet.
func (u *UMEM) Held() []uint64 {
	held := make([]uint64, (u.Frames()+63)/64)
	if u.state == nil {
		return held
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for place, words := range u.state.places {
		if !u.state.used[place] {
			continue
		}
		for i := range held {
			held[i] |= words[placeFrames+i]
		}
	}
	return held
}

// lock makes this process the only one that writes to shared memory. The kernel ends the lock when
// the process has ended, or closes a descriptor of the memory.
func lock(fd int) error {
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &whole); err != nil {
		return fmt.Errorf("another process uses the frames: %w", err)
	}
	return nil
}
