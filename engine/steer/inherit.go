package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Holder holds copies of descriptors beyond the end of this process: a *estate.Store.
type Holder interface {
	Names() []string
	Take(name string) (fd int, ok bool)
	Put(name string, fd int) error
	Remove(name string) error
}

// linkName is how the links of the program are named, before the number of the interface.
const linkName = "xdp."

// formerLink is the link of a former process, which was killed. Its program remains attached. It
// drops what is for Sluice, because the process's sockets ended with it, and passes all else, so
// that a kernel that has a VIP does not answer for it.
type formerLink struct {
	link   link.Link
	name   string // at the holder
	device string // name of the interface
	mode   Mode
}

// Inherit makes h hold the links of ports that are attached from now on, and takes over what the
// former process has left there. Attach leaves the former program in place until the first Set.
func (p *Program) Inherit(h Holder) {
	p.holder, p.former, p.lasting = h, make(map[int]*formerLink), make(map[string]*ebpf.Map)
	for _, name := range h.Names() {
		if !strings.HasPrefix(name, linkName) || p.has(name) {
			continue
		}
		fd, ok := h.Take(name)
		if !ok {
			continue
		}
		left, err := link.NewFromFD(fd) // owns fd, also when it fails
		if err != nil {
			continue
		}
		f := &formerLink{link: left, name: name}
		if ifindex := f.examine(); ifindex != 0 {
			p.former[ifindex] = f
			p.inheritMaps(f.number())
			continue
		}
		_ = f.end(h) // of an interface that is gone, or unusable
	}
}

// has reports whether the link of this name has been taken over: two holders may have it.
func (p *Program) has(name string) bool {
	ifindex, err := strconv.Atoi(strings.TrimPrefix(name, linkName))
	return err == nil && p.former[ifindex] != nil
}

// number returns the number of the interface, as it is in names at the holder.
func (f *formerLink) number() string { return strings.TrimPrefix(f.name, linkName) }

// examine returns the interface that the link is attached to, 0 if its program cannot be taken
// over.
func (f *formerLink) examine() (ifindex int) {
	info, err := f.link.Info()
	if err != nil || info.XDP() == nil || strconv.Itoa(int(info.XDP().Ifindex)) != f.number() {
		return 0
	}
	ifindex = int(info.XDP().Ifindex)
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil || device.Attrs().Xdp == nil || device.Attrs().Xdp.ProgId != uint32(info.Program) {
		return 0
	}
	// without CAP_SYS_ADMIN the name cannot be read: that the holder has the link is enough
	if name, err := programName(uint32(info.Program)); !errors.Is(err, fs.ErrPermission) && (err != nil || name != steerProgSluiceSteer) {
		return 0
	}
	f.device, f.mode = device.Attrs().Name, modeOf(device.Attrs().Xdp.AttachMode)
	return ifindex
}

// end detaches the program, also if others hold its link.
func (f *formerLink) end(h Holder) error {
	// an error of Detach means that the interface is gone
	_ = f.link.Detach()
	return errors.Join(h.Remove(f.name), removeMaps(h, f.number()), f.link.Close())
}

// adopt lets the port have the former program's place, and reports whether there is one.
func (p *Program) adopt(port *Port) bool {
	f := p.former[port.ifindex]
	if f == nil {
		return false
	}
	if f.mode != port.mode {
		delete(p.former, port.ifindex)
		_ = f.end(p.holder)
		return false
	}
	port.name, port.former = f.device, f
	p.waiting = append(p.waiting, port)
	return true
}

// Leave makes ports that have a holder stay attached when they are closed: what is for Sluice is
// dropped then, until another process takes them over, or Release ends it. It is called before
// Hold.
func (p *Program) Leave() { p.leave = true }

// Hold makes the holder, if there is one, hold the port's link and maps that last. It is called
// once the port's sockets are registered.
func (p *Program) Hold(port *Port) error {
	port.holder, port.leave = p.holder, p.leave
	return port.hold()
}

func (p *Port) hold() error {
	if p.holder == nil {
		return nil
	}
	err := errors.Join(
		p.holder.Put(lastingName(steerMapCounters, p.number()), p.counters.FD()),
		p.holder.Put(lastingName(steerMapHeartbeats, p.number()), p.beats.m.FD()))
	raw, ok := p.link.(rawLink)
	if ok && p.former == nil { // else it has the former one's
		err = errors.Join(err, p.holder.Put(p.linkName(), raw.FD()))
	}
	if err != nil {
		return fmt.Errorf("steer: interface %s: its XDP program or its maps end with this process: %w", p.name, err)
	}
	return nil
}

func (p *Port) linkName() string { return linkName + p.number() }

// number returns the number of the interface, as it is in names at the holder.
func (p *Port) number() string { return strconv.Itoa(p.ifindex) }

// EndFormer detaches the former programs of interfaces that have not been attached: they are no
// ports any more.
func (p *Program) EndFormer() (err error) {
	for ifindex, f := range p.former {
		if p.waits(ifindex) {
			continue
		}
		delete(p.former, ifindex)
		err = errors.Join(err, f.end(p.holder))
	}
	return err
}

func (p *Program) waits(ifindex int) bool {
	for _, port := range p.waiting {
		if port.ifindex == ifindex && port.formerLink() != nil {
			return true
		}
	}
	return false
}

// replaceFormer puts the program in the place of the former one at each port that has waited for
// its rules, or will do so when the program is loaded. From then on frames go to the new sockets.
func (p *Program) replaceFormer() (err error) {
	for _, port := range p.waiting {
		f := port.formerLink()
		if f == nil { // closed meanwhile
			continue
		}
		delete(p.former, port.ifindex)
		if port.later.loaded == nil {
			err = errors.Join(err, port.replace(f))
			continue
		}
		port.replaceLater(f)
	}
	p.waiting = nil
	return err
}

func (p *Port) formerLink() *formerLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.former
}

// replace puts the port's program in the place of the former one.
func (p *Port) replace(f *formerLink) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.former = nil
	if f.link.Update(p.sockets.Program) == nil {
		p.link = f.link
		return nil
	}
	return errors.Join(f.end(p.holder), p.attach(), p.hold())
}

// closeFormer closes the former links that are not in use: their programs stay, for the next
// process.
func (p *Program) closeFormer() (err error) {
	for _, f := range p.former {
		err = errors.Join(err, f.link.Close())
	}
	p.former = nil
	return err
}

// detach ends the port's link, also if a holder has a copy; but not if the port is to stay
// attached.
func (p *Port) detach() error {
	if p.link == nil {
		return nil
	}
	var err error
	if p.holder != nil && !p.leave {
		_ = p.link.Detach() // an error means that the interface is gone
		err = errors.Join(p.holder.Remove(p.linkName()), removeMaps(p.holder, p.number()))
	}
	return errors.Join(err, p.link.Close())
}
