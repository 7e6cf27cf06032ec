package linux

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/platform"
	"sluice/engine/xsk"
)

// The holder has copies of the AF_XDP sockets and of the memory of their frames. If the process is
// killed, frames wait on the sockets' rings, and the next process goes on with them: see
// xsk.Inherit. A socket belongs to a queue, whatever worker has the queue. Queues that have none
// are opened beside the others, on the same memory, and sockets that no port needs are closed.
// If one that is needed cannot be taken over, or the memory is too small for all queues, all are
// opened again, as without a holder.

// The names at the holder. That of a socket is "xsk.0.7.1.copy": its place in the state, interface,
// queue and io.
const (
	framesName = "frames"
	stateName  = "frames.state"
	socketName = "xsk."
)

// staleAfter is how long received frames may wait for the next process. Their senders have sent
// them again by then.
const staleAfter = time.Second

// spareSockets is how many sockets later processes may have more.
const spareSockets = 64

// livePause is the time between two notes that the process lives.
const livePause = 200 * time.Millisecond

// formerSockets is what the former process has left.
type formerSockets struct {
	names   []string // at the holder
	frames  int      // descriptors; -1: none
	state   int
	sockets map[queueOf]formerSocket
	unknown []string // names that cannot be read, or of a queue that has another
}

// queueOf names a queue of this host.
type queueOf struct{ ifindex, queue int }

type formerSocket struct {
	fd, place int
	io        conf.IO
	name      string
}

// formerPort is the sockets of a port that were taken over.
type formerPort struct {
	io      conf.IO
	sockets map[int]*xsk.Socket
	names   []string // at the holder
}

// openFrames maps the memory of frames, with the sockets of the former process if the ports need
// these.
func (k *Kernel) openFrames(frames int, ports []*port) (err error) {
	if k.holder == nil {
		k.umem, err = xsk.NewUMEM(frames, -1)
		return err
	}
	sockets := 0
	for _, p := range ports {
		sockets += len(p.queues)
	}
	if !k.takeOver(frames, ports) {
		if k.umem, err = xsk.NewLasting(frames, sockets+spareSockets); err != nil {
			return err
		}
		if err := errors.Join(k.holder.Put(framesName, k.umem.FD()), k.holder.Put(stateName, k.umem.StateFD())); err != nil {
			k.log.Warn("sockets will not outlive this process", "event", "keep_failed", "error", err)
		}
	}
	k.running.Go(k.live)
	return nil
}

// live notes from time to time that this process lives.
func (k *Kernel) live() {
	tick := time.NewTicker(livePause)
	defer tick.Stop()
	for {
		if !k.left.Load() {
			k.umem.Live()
		}
		select {
		case <-tick.C:
		case <-k.stop:
			return
		}
	}
}

// takeOver takes over the sockets of the former process. It reports whether it did; if not, they
// are closed.
func (k *Kernel) takeOver(frames int, ports []*port) bool {
	f := k.findSockets()
	if len(f.names) == 0 {
		return false
	}
	former, err := k.takeSockets(f, frames, ports)
	f.close()
	if err != nil {
		for _, name := range f.names {
			err = errors.Join(err, k.holder.Remove(name))
		}
		k.log.Warn("sockets of the former process are not used, and all are opened again", "event", "takeover_failed", "error", err)
		k.inherited = &platform.Inherited{Err: err}
		return false
	}
	k.former = former
	k.resume()
	return true
}

// resume makes the sockets that were taken over work.
func (k *Kernel) resume() {
	away := k.umem.Away()
	sum := &platform.Inherited{Away: away, Discarded: away > staleAfter}
	for _, p := range k.former {
		for _, s := range p.sockets {
			found := s.Resume(sum.Discarded)
			sum.Received += found.Received
			sum.Sending += found.Sending
			sum.Repaired += found.Lost
			sum.Queues++
		}
	}
	k.inherited = sum
	k.log.Info("sockets of the former process were taken over", "event", "takeover_sockets", "queues", sum.Queues,
		"away", away.Round(time.Millisecond), "received", sum.Received, "discarded", sum.Discarded, "sending", sum.Sending, "repaired", sum.Repaired)
}

var _ platform.Heir = (*Kernel)(nil)

// Inherited implements platform.Heir.
func (k *Kernel) Inherited() *platform.Inherited { return k.inherited }

// findSockets returns what the former process has left with the holder.
func (k *Kernel) findSockets() *formerSockets {
	f := &formerSockets{frames: -1, state: -1, sockets: make(map[queueOf]formerSocket)}
	for _, name := range k.holder.Names() {
		if name != framesName && name != stateName && !strings.HasPrefix(name, socketName) {
			continue
		}
		fd, ok := k.holder.Take(name)
		if !ok {
			continue
		}
		f.names = append(f.names, name)
		switch name {
		case framesName:
			f.frames = fd
		case stateName:
			f.state = fd
		default:
			f.add(name, fd)
		}
	}
	return f
}

// add adds a socket.
func (f *formerSockets) add(name string, fd int) {
	of, s := queueOf{}, formerSocket{fd: fd, name: name}
	n, err := fmt.Sscanf(name, socketName+"%d.%d.%d.%s", &s.place, &of.ifindex, &of.queue, &s.io)
	if _, twice := f.sockets[of]; err != nil || n != 4 || twice {
		unix.Close(fd)
		f.unknown = append(f.unknown, name)
		return
	}
	f.sockets[of] = s
}

// close closes what was not taken over.
func (f *formerSockets) close() {
	for _, s := range f.sockets {
		unix.Close(s.fd)
	}
	for _, fd := range []int{f.frames, f.state} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// takeSockets takes over the sockets that the ports need. f has what is left to close.
func (k *Kernel) takeSockets(f *formerSockets, frames int, ports []*port) (map[int]formerPort, error) {
	switch {
	case f.frames < 0 || f.state < 0:
		return nil, errors.New("the memory of their frames was not held")
	case len(f.unknown) > 0:
		return nil, fmt.Errorf("one is held as %q, which is no place, interface, queue and io, or of a queue that has two", f.unknown[0])
	}
	u, err := xsk.Inherit(f.frames, f.state)
	if f.frames, f.state = -1, -1; err != nil {
		return nil, err
	}
	if u.Frames() < frames/2 {
		err = fmt.Errorf("there are %d frames, and %d are needed now", u.Frames(), frames)
	}
	former := make(map[int]formerPort)
	for _, p := range ports {
		if err == nil {
			var of formerPort
			if of, err = k.takePort(f, u, p); of.sockets != nil {
				former[p.ifindex] = of
			}
		}
	}
	if err == nil && len(former) == 0 {
		err = errors.New("no port has one of their queues now")
	}
	if err == nil {
		err = k.leaveOthers(f, u)
	}
	if err == nil {
		err = u.Verify()
	}
	if err == nil {
		k.umem = u
		return former, nil
	}
	for _, p := range former {
		for _, s := range p.sockets {
			_, e := s.Close()
			err = errors.Join(err, e)
		}
	}
	return nil, errors.Join(err, u.Close())
}

// leaveOthers makes the holder close the sockets that no port needs any more.
func (k *Kernel) leaveOthers(f *formerSockets, u *xsk.UMEM) error {
	for _, s := range f.sockets {
		if err := u.LeaveOut(s.place); err != nil {
			return err
		}
		if err := k.holder.Remove(s.name); err != nil {
			return err
		}
		k.log.Info("socket of the former process is closed: no port has its queue now", "event", "socket_left", "name", s.name)
	}
	return nil
}

// takePort takes over the sockets of a port. Queues that have none are left out.
func (k *Kernel) takePort(f *formerSockets, u *xsk.UMEM, p *port) (former formerPort, err error) {
	for _, queue := range p.queues {
		of := queueOf{p.ifindex, queue}
		s, ok := f.sockets[of]
		if !ok {
			continue
		}
		a, ok := attemptOf(s.io)
		if !ok || p.conf.IO != conf.IOAuto && p.conf.IO != s.io || former.io != "" && former.io != s.io {
			return former, fmt.Errorf("io of port %q was %q, and is %q now", p.conf.Name, s.io, p.conf.IO)
		}
		delete(f.sockets, of) // Take owns it
		socket, err := u.Take(k.socketConfig(p, queue, a.xsk), s.fd, s.place)
		if err != nil {
			return former, err
		}
		if former.sockets == nil {
			former.sockets = make(map[int]*xsk.Socket)
		}
		former.io, former.sockets[queue] = s.io, socket
		former.names = append(former.names, s.name)
	}
	return former, nil
}

// holdSockets makes the holder hold the port's sockets, if it does not yet.
func (k *Kernel) holdSockets(p *port) (err error) {
	if k.holder == nil || p.held != nil {
		return nil
	}
	for queue, s := range p.sockets {
		name := fmt.Sprintf("%s%d.%d.%d.%s", socketName, s.Place(), p.ifindex, queue, p.io)
		p.held = append(p.held, name)
		err = errors.Join(err, k.holder.Put(name, s.FD()))
	}
	return err
}

// forgetSockets makes the holder close the port's sockets.
func (p *port) forgetSockets() (err error) {
	for _, name := range p.held {
		err = errors.Join(err, p.holder.Remove(name))
	}
	p.held = nil
	return err
}

// forgetFrames makes the holder free the memory of frames. Sockets that were taken over and are of
// no port, because opening ended early, are closed.
func (k *Kernel) forgetFrames() (err error) {
	for _, former := range k.former {
		_, e := (&port{holder: k.holder, held: former.names, sockets: former.sockets}).close()
		err = errors.Join(err, e)
	}
	k.former = nil
	if k.holder != nil && k.umem != nil {
		err = errors.Join(err, k.holder.Remove(framesName), k.holder.Remove(stateName))
	}
	return err
}
