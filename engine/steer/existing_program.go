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

// ForeignError means that the interface has an XDP program that is not Sluice's, or that has no
// readable name. Sluice leaves it alone.
type ForeignError struct {
	Interface string
	Program   string // its name, "" if it has none or must not be read
	ID        uint32 // its number, as in "bpftool prog"; 0 if there are several
	Link      uint32 // number of the link that attaches it, 0 if it was attached without
	PID       int    // of a process that holds this link, 0 if none is found
	Option    string // of "ip link set dev": xdpdrv, xdpgeneric, xdpoffload, xdp
}

// Error describes the program and how to remove it.
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
	return fmt.Sprintf("steer: interface %s already has an XDP program %s (id %d), which Sluice did not attach and does not remove: remove it with %s, or remove the interface from the configuration",
		e.Interface, name, e.ID, remove)
}

// BusyError means that a running Sluice has the interface.
type BusyError struct {
	Interface string
	PID       int
}

// Error names the process and what to do.
func (e *BusyError) Error() string {
	if e.PID == os.Getpid() {
		return fmt.Sprintf("steer: interface %s is already attached by this process", e.Interface)
	}
	return fmt.Sprintf("steer: interface %s is in use by Sluice process %d: stop it first", e.Interface, e.PID)
}

// clearDevice removes what an earlier Sluice left on the device, and returns an error if another
// XDP program is on it.
//
// An earlier Sluice rarely leaves something, since its link ends with it: a link that was pinned in
// a BPF file system or is about to end, or a program that was attached by other means, such as ip.
func clearDevice(device netlink.Link) error {
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

// ExistingProgram reports which XDP program is on an interface: a *BusyError for that of a running
// Sluice, a *ForeignError for one that is not Sluice's, nil for none or for what an earlier Sluice
// left. It changes nothing.
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

// leftOn reports whether the XDP program on an interface is that of a Sluice that no longer runs.
func leftOn(ifname string) (device netlink.Link, left bool, err error) {
	if device, err = netlink.LinkByName(ifname); err != nil {
		return nil, false, fmt.Errorf("steer: interface %s: %w", ifname, err)
	}
	existing, err := existingProgramOn(device)
	if err != nil || existing == nil {
		return device, false, err
	}
	return device, true, existing.claim()
}

// claim returns why the interface cannot be used: its program is foreign, or a running Sluice's. It
// returns nil for what an earlier Sluice left.
func (e *ForeignError) claim() error {
	switch {
	case e.Program != steerProgSluiceSteer:
		return e
	case e.PID != 0:
		return &BusyError{Interface: e.Interface, PID: e.PID}
	}
	return nil
}

// existingProgramOn returns the XDP program on a device, Sluice's or not, and nil if there is none.
// A program that cannot be examined is an error, mostly a *ForeignError.
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

// lookupError returns the error of clearDevice for a program that cannot be examined: it may have
// gone meanwhile, else it counts as foreign.
func lookupError(err error, existing *ForeignError) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("steer: interface %s: its XDP program was removed while Sluice examined it: %w", existing.Interface, syscall.EBUSY)
	}
	return existing
}

// option returns iproute2's name for a kind of attachment.
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

// linkOn returns the link that attaches a program to an interface, 0 if there is none.
func linkOn(ifindex int, program uint32) (uint32, error) {
	var links link.Iterator
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil || info.Program != ebpf.ProgramID(program) {
			continue // of a kind that the library does not know, or of another program
		}
		if x := info.XDP(); x != nil && int(x.Ifindex) == ifindex {
			return uint32(links.ID), nil
		}
	}
	return 0, links.Err()
}

// holder returns the process that holds a link open, 0 if there is none. A process that must not be
// examined counts if it has this process's name.
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

// anyFileContains reports whether a file in a /proc directory contains a text. Files come and go
// meanwhile, so only the error of the directory itself is returned.
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

// hasOurName reports whether a process has this one's command name, which every user may read.
func hasOurName(dir string) bool {
	theirs, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return false
	}
	ours, err := os.ReadFile("/proc/self/comm")
	return err == nil && bytes.Equal(theirs, ours)
}

// modeOf returns the mode of a kind of attachment.
func modeOf(attachMode uint32) Mode {
	if attachMode == nl.XDP_ATTACHED_DRV {
		return Native
	}
	return Generic
}

// detachProgram removes a program that no link attaches.
func detachProgram(device netlink.Link, attachMode uint32) error {
	if err := netlink.LinkSetXdpFdWithFlags(device, -1, int(modeOf(attachMode).flags())); err != nil {
		return fmt.Errorf("steer: interface %s: removing the XDP program that an earlier Sluice left: %w", device.Attrs().Name, err)
	}
	return nil
}

// detachLink detaches a link from its interface, although another process holds it. A link that is
// gone is not an error.
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
