package steer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

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
	p.holder, p.former = h, make(map[int]*formerLink)
	for _, name := range h.Names() {
		if !strings.HasPrefix(name, linkName) {
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
			continue
		}
		_ = f.end(h) // of an interface that is gone, or unusable
	}
}

// examine returns the interface that the link is attached to, 0 if its program cannot be taken
// over.
func (f *formerLink) examine() (ifindex int) {
	info, err := f.link.Info()
	if err != nil || info.XDP() == nil || strconv.Itoa(int(info.XDP().Ifindex)) != strings.TrimPrefix(f.name, linkName) {
		return 0
	}
	ifindex = int(info.XDP().Ifindex)
	device, err := netlink.LinkByIndex(ifindex)
	if err != nil || device.Attrs().Xdp == nil || device.Attrs().Xdp.ProgId != uint32(info.Program) {
		return 0
	}
	if name, err := programName(uint32(info.Program)); err != nil || name != steerProgSluiceSteer {
		return 0
	}
	f.device, f.mode = device.Attrs().Name, modeOf(device.Attrs().Xdp.AttachMode)
	return ifindex
}

// end detaches the program, also if others hold its link.
func (f *formerLink) end(h Holder) error {
	// an error of Detach means that the interface is gone
	_ = f.link.Detach()
	return errors.Join(h.Remove(f.name), f.link.Close())
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

// Hold makes the holder, if there is one, hold the port's link. It is called once the port's
// sockets are registered.
func (p *Program) Hold(port *Port) error {
	port.holder = p.holder
	return port.hold()
}

func (p *Port) hold() error {
	if p.holder == nil || p.former != nil {
		return nil // it has the former one's
	}
	raw, ok := p.link.(interface{ FD() int })
	if !ok {
		return nil
	}
	if err := p.holder.Put(p.linkName(), raw.FD()); err != nil {
		return fmt.Errorf("steer: interface %s: its XDP program ends with this process: %w", p.name, err)
	}
	return nil
}

func (p *Port) linkName() string { return linkName + strconv.Itoa(p.ifindex) }

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
		if port.ifindex == ifindex && port.former != nil {
			return true
		}
	}
	return false
}

// replaceFormer puts the program in the place of the former one at each port that has waited for
// its rules. From then on frames go to the new sockets.
func (p *Program) replaceFormer() (err error) {
	for _, port := range p.waiting {
		f := port.former
		if f == nil { // closed meanwhile
			continue
		}
		port.former = nil
		delete(p.former, port.ifindex)
		if f.link.Update(port.sockets.Program) == nil {
			port.link = f.link
			continue
		}
		err = errors.Join(err, f.end(p.holder), port.attach(), port.hold())
	}
	p.waiting = nil
	return err
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

// detach ends the port's link, also if a holder has a copy.
func (p *Port) detach() error {
	if p.link == nil {
		return nil
	}
	var err error
	if p.holder != nil {
		_ = p.link.Detach() // an error means that the interface is gone
		err = p.holder.Remove(p.linkName())
	}
	return errors.Join(err, p.link.Close())
}
