package steer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
)

// ForeignError means that the interface carries an XDP program that isn't Sluice's, or whose name
// can't be read. It is left alone.
type ForeignError struct {
	Interface string
	Program   string // its name, "" if it has none or reading it isn't allowed
	ID        uint32 // its number, as in "bpftool prog"; 0 if there are several
	Link      uint32 // number of the link that attaches it, 0 if it was attached without
	PID       int    // of a process that holds this link, 0 if none is found
	Option    string // what "ip link set dev" calls the way it is attached: xdpdrv, xdpgeneric, xdpoffload, xdp
}

// Error says what there is and how to remove it.
func (e *ForeignError) Error() string {
	name := strconv.Quote(e.Program)
	if e.Program == "" {
		name = "without a readable name"
	}
	remove := fmt.Sprintf(`"ip link set dev %s %s off"`, e.Interface, e.Option)
	if e.Link != 0 {
		remove = fmt.Sprintf(`"bpftool link detach id %d"`, e.Link)
	}
	if e.PID != 0 {
		remove += fmt.Sprintf(" or by stopping process %d", e.PID)
	}
	return fmt.Sprintf("steer: interface %s already has an XDP program %s (id %d), which Sluice did not attach and does not remove: remove it with %s, or take the interface out of the configuration",
		e.Interface, name, e.ID, remove)
}

// BusyError means that a running Sluice has the interface.
type BusyError struct {
	Interface string
	PID       int
}

// Error says who it is and what to do.
func (e *BusyError) Error() string {
	if e.PID == os.Getpid() {
		return fmt.Sprintf("steer: interface %s is already attached by this process", e.Interface)
	}
	return fmt.Sprintf("steer: interface %s is in use by the Sluice with process number %d: stop it first", e.Interface, e.PID)
}

// makeRoom returns nil when no XDP program is, or is any more, on the device.
//
// What a Sluice that is gone can leave behind isn't much, since its link goes with it: a link that
// somebody has pinned in a BPF file system or is still dying, and a program attached by other means
// than Sluice's own, like ip.
func makeRoom(device netlink.Link) error {
	existing, err := existingProgramOn(device)
	if err != nil || existing == nil {
		return err
	}
	if err := existing.claim(); err != nil {
		return err
	}
	if existing.Link != 0 {
		return detachLink(link.ID(existing.Link))
	}
	return detachProgram(device, device.Attrs().Xdp.AttachMode)
}

// ExistingProgram says which XDP program is on an interface, as BusyError if it is a running Sluice's and
// as ForeignError if it is somebody else's, and nil if there is none or one that a Sluice left
// behind. It changes nothing.
func ExistingProgram(ifname string) error {
	device, err := netlink.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("steer: interface %s: %w", ifname, err)
	}
	existing, err := existingProgramOn(device)
	if err != nil || existing == nil {
		return err
	}
	return existing.claim()
}

// claim says why the interface can't be had: the program is somebody else's, or a running Sluice's.
// It is nil for what an earlier Sluice left behind.
func (e *ForeignError) claim() error {
	switch {
	case e.Program != steerProgSluiceSteer:
		return e
	case e.PID != 0:
		return &BusyError{Interface: e.Interface, PID: e.PID}
	}
	return nil
}

// existingProgramOn finds the XDP program that is on a device, whosever it is; nil if there is none. What
// can't be looked at is an error, mostly a ForeignError.
func existingProgramOn(device netlink.Link) (*ForeignError, error) {
	attached := device.Attrs().Xdp
	if attached == nil || !attached.Attached {
		return nil, nil
	}
	existing := &ForeignError{
		Interface: device.Attrs().Name,
		ID:        attached.ProgId,
		Option:    option(attached.AttachMode),
	}
	var err error
	if existing.Program, err = programName(attached.ProgId); err != nil {
		return nil, lookupError(err, existing)
	}
	if existing.Link, err = linkOn(device.Attrs().Index, attached.ProgId); err != nil {
		return nil, lookupError(err, existing)
	}
	if existing.Link != 0 {
		if existing.PID, err = holder(existing.Link); err != nil {
			return nil, fmt.Errorf("steer: interface %s: looking for the process behind its XDP program: %w", existing.Interface, err)
		}
	}
	return existing, nil
}

// lookupError turns the error of a look at the existing into makeRoom's: it may have gone before
// we looked, and what can't be looked at is foreign.
func lookupError(err error, existing *ForeignError) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("steer: interface %s: its XDP program went while it was looked at: %w", existing.Interface, syscall.EBUSY)
	}
	return existing
}

// option is the name that iproute2 gives to an attachment of this kind.
func option(attachMode uint32) string {
	switch attachMode {
	case nl.XDP_ATTACHED_DRV:
		return "xdpdrv"
	case nl.XDP_ATTACHED_SKB:
		return "xdpgeneric"
	case nl.XDP_ATTACHED_HW:
		return "xdpoffload"
	}
	return "xdp"
}

func programName(id uint32) (string, error) {
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		return "", err
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

// linkOn finds the link that attaches a program to an interface, 0 if there is none.
func linkOn(ifindex int, program uint32) (uint32, error) {
	var links link.Iterator
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil || info.Program != ebpf.ProgramID(program) {
			continue // of a kind that the library doesn't know, or somebody else's
		}
		if x := info.XDP(); x != nil && int(x.Ifindex) == ifindex {
			return uint32(links.ID), nil
		}
	}
	return 0, links.Err()
}

// holder finds the process that holds a link open, 0 if there is none. A process that we may not
// look into counts if it has our name.
func holder(link uint32) (pid int, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	line := fmt.Appendf(nil, "link_id:\t%d\n", link)
	for _, dir := range dirs {
		holds, err := anyFileContains(filepath.Join(dir, "fdinfo"), line)
		if !holds && (!errors.Is(err, fs.ErrPermission) || !hasOurName(dir)) {
			continue
		}
		if pid, err = strconv.Atoi(filepath.Base(dir)); err != nil || holds {
			return pid, err
		}
	}
	return pid, nil
}

// anyFileContains looks through the files of a /proc directory. They come and go meanwhile: only
// the error of the directory itself is returned.
func anyFileContains(dir string, text []byte) (bool, error) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err == nil && bytes.Contains(content, text) {
			return true, nil
		}
	}
	return false, err
}

// hasOurName compares the command name of a process with this one's; everybody may read those.
func hasOurName(dir string) bool {
	theirs, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return false
	}
	ours, err := os.ReadFile("/proc/self/comm")
	return err == nil && bytes.Equal(theirs, ours)
}

// detachProgram removes a program that no link attaches.
func detachProgram(device netlink.Link, attachMode uint32) error {
	mode := Generic
	if attachMode == nl.XDP_ATTACHED_DRV {
		mode = Native
	}
	if err := netlink.LinkSetXdpFdWithFlags(device, -1, int(mode.flags())); err != nil {
		return fmt.Errorf("steer: interface %s: removing the XDP program that an earlier Sluice left: %w", device.Attrs().Name, err)
	}
	return nil
}

// detachLink takes a link off its interface, whoever keeps it alive. It is no error if that has
// happened already.
func detachLink(id link.ID) error {
	left, err := link.NewFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("steer: opening link %d, which an earlier Sluice left: %w", id, err)
	}
	defer left.Close()
	if err := left.Detach(); err != nil {
		return fmt.Errorf("steer: detaching link %d, which an earlier Sluice left: %w", id, err)
	}
	return nil
}
