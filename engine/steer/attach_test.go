package steer_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

func TestAttachAndClose(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	program := load(t)
	for mode, want := range map[steer.Mode]uint32{steer.Native: nl.XDP_ATTACHED_DRV, steer.Generic: nl.XDP_ATTACHED_SKB} {
		port, err := program.Attach(device.Attrs().Index, mode)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if x := xdpOn(t, device); x == nil || x.AttachMode != want || nameOf(t, x.ProgId) != "sluice_steer" {
			t.Errorf("%s: on the interface is %+v", mode, x)
		}
		if port.Interface() != "steer0" || port.Mode() != mode {
			t.Errorf("the port reports %s, %s", port.Interface(), port.Mode())
		}
		if err := errors.Join(port.Close(), port.Close()); err != nil {
			t.Errorf("%s: close: %v", mode, err)
		}
		if x := xdpOn(t, device); x != nil {
			t.Errorf("%s: after Close on the interface is %+v", mode, x)
		}
	}
}

// TestRestore checks that a program which another process has detached or replaced is attached
// again, with its maps, unless another program has taken its place.
func TestRestore(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	program := load(t)
	for _, mode := range []steer.Mode{steer.Native, steer.Generic} {
		port, err := program.Attach(device.Attrs().Index, mode)
		if err != nil {
			t.Fatal(err)
		}
		if lost, err := port.Restore(); lost != "" || err != nil {
			t.Errorf("%s: nothing was detached: %v, %v", mode, lost, err)
		}
		before := xdpOn(t, device).ProgId
		detach(t, device)
		if x := xdpOn(t, device); x != nil {
			t.Fatalf("%s: on the interface is %+v", mode, x)
		}
		if lost, err := port.Restore(); lost != "detached" || err != nil {
			t.Errorf("%s: %v, %v", mode, lost, err)
		}
		if x := xdpOn(t, device); x == nil || x.ProgId != before {
			t.Errorf("%s: on the interface is %+v", mode, x)
		}
		onLink(t, device, func(l link.Link) error { return l.Update(passing(t)) })
		if x := xdpOn(t, device); x == nil || x.ProgId == before {
			t.Fatalf("%s: on the interface is %+v", mode, x)
		}
		if lost, err := port.Restore(); lost != "replaced" || err != nil {
			t.Errorf("%s: %v, %v", mode, lost, err)
		}
		if x := xdpOn(t, device); x == nil || x.ProgId != before {
			t.Errorf("%s: on the interface is %+v", mode, x)
		}
		detach(t, device)
		foreign := otherProgram(t, device)
		if lost, err := port.Restore(); lost != "detached" || !errors.As(err, new(*steer.ForeignError)) {
			t.Errorf("%s: %v, %v", mode, lost, err)
		}
		if err := foreign.Close(); err != nil {
			t.Error(err)
		}
		if lost, err := port.Restore(); lost != "detached" || err != nil {
			t.Errorf("%s: after the other program: %v, %v", mode, lost, err)
		}
		if err := port.Close(); err != nil {
			t.Error(err)
		}
		if x := xdpOn(t, device); x != nil {
			t.Errorf("%s: after Close on the interface is %+v", mode, x)
		}
	}
}

// detach detaches the XDP program of a device by its link, as bpftool does. A device of another
// namespace may have the same index, and a program of another process.
func detach(t *testing.T, device netlink.Link) {
	t.Helper()
	onLink(t, device, link.Link.Detach)
}

// onLink calls do with the link of the XDP program of a device.
func onLink(t *testing.T, device netlink.Link, do func(link.Link) error) {
	t.Helper()
	program := ebpf.ProgramID(xdpOn(t, device).ProgId)
	for links := new(link.Iterator); links.Next(); {
		info, err := links.Link.Info()
		if err != nil {
			t.Fatal(err)
		}
		if x := info.XDP(); x == nil || x.Ifindex != uint32(device.Attrs().Index) || info.Program != program {
			continue
		}
		if err := do(links.Link); err != nil {
			t.Fatal(err)
		}
	}
}

// passing returns a program that is not ours.
func passing(t *testing.T) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Name: "other", License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

// otherProgram attaches a program that is not ours to a device.
func otherProgram(t *testing.T, device netlink.Link) link.Link {
	t.Helper()
	l, err := link.AttachXDP(link.XDPOptions{Program: passing(t), Interface: device.Attrs().Index})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAttachErrors(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	if _, err := program.Attach(999, steer.Native); err == nil || !strings.Contains(err.Error(), "999") {
		t.Errorf("an interface that does not exist: %v", err)
	}
	if _, err := program.Attach(loopback(t).Attrs().Index, 0); err == nil || !strings.Contains(err.Error(), "native and generic") {
		t.Errorf("no mode: %v", err)
	}
	_, err := program.Attach(loopback(t).Attrs().Index, steer.Native)
	if !errors.Is(err, steer.ErrNoNative) || !strings.Contains(err.Error(), "interface lo") {
		t.Errorf("a driver without XDP: %v", err)
	}
	device, peer := veth(t)
	for _, end := range []netlink.Link{device, peer} {
		if err := netlink.LinkSetMTU(end, 9000); err != nil {
			t.Fatal(err)
		}
	}
	_, err = program.Attach(device.Attrs().Index, steer.Native)
	if !errors.Is(err, steer.ErrNoNative) || !strings.Contains(err.Error(), "MTU") {
		t.Errorf("too large an MTU: %v", err)
	}
}

// TestInterfaceGone: a port with an interface that has been removed can be closed, and nothing else
// is disturbed.
func TestInterfaceGone(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	program := load(t)
	port := attach(t, program, device, steer.Native)
	if err := netlink.LinkDel(device); err != nil {
		t.Fatal(err)
	}
	if err := program.Set(testRules()); err != nil {
		t.Error(err)
	}
	if _, err := port.Counters(); err != nil {
		t.Error(err)
	}
	if err := port.Close(); err != nil {
		t.Error(err)
	}
}

// TestProgramDiesWithProcess: after kill -9 the interface is as before.
func TestProgramDiesWithProcess(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	other := startHolder(t, "steer0")
	if xdpOn(t, device) == nil {
		t.Fatal("the second process has attached nothing")
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the program is off the interface", func() bool { return xdpOn(t, device) == nil })
}

// TestRunningSluice is refused by number as long as it runs, and no longer.
func TestRunningSluice(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	other := startHolder(t, "steer0")
	program := load(t)
	before := xdpOn(t, device)
	for _, mode := range []steer.Mode{steer.Native, steer.Generic} {
		_, err := program.Attach(device.Attrs().Index, mode)
		var busy *steer.BusyError
		if !errors.As(err, &busy) || busy.PID != other.Process.Pid || !strings.Contains(err.Error(), fmt.Sprint(busy.PID)) {
			t.Errorf("error %v, want one about process %d", err, other.Process.Pid)
		}
	}
	if x := xdpOn(t, device); x == nil || x.ProgId != before.ProgId {
		t.Errorf("the other's program was %+v and is %+v", before, x)
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	attach(t, program, device, steer.Native)

	_, err := program.Attach(device.Attrs().Index, steer.Native)
	var busy *steer.BusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() || !strings.Contains(err.Error(), "this process") {
		t.Errorf("attaching twice: %v", err)
	}
}

// passAll loads a program that does nothing.
func passAll(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         name,
		Type:         ebpf.XDP,
		License:      "none",
		Instructions: asm.Instructions{asm.LoadImm(asm.R0, pass, asm.DWord), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

func nameOf(t *testing.T, id uint32) string {
	t.Helper()
	program, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Name
}

// attachWithoutLink puts a program on the interface as "ip link set" does.
func attachWithoutLink(t *testing.T, device netlink.Link, program *ebpf.Program, flags int) {
	t.Helper()
	if err := netlink.LinkSetXdpFdWithFlags(device, program.FD(), flags); err != nil {
		t.Fatal(err)
	}
}

func attachByLink(t *testing.T, device netlink.Link, program *ebpf.Program, flags link.XDPAttachFlags) link.Link {
	t.Helper()
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: device.Attrs().Index, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestForeignProgram is named and left alone.
func TestForeignProgram(t *testing.T) {
	ways := map[string]struct {
		put  func(*testing.T, netlink.Link, *ebpf.Program)
		hint string
	}{
		"native": {
			func(t *testing.T, d netlink.Link, p *ebpf.Program) {
				attachWithoutLink(t, d, p, unix.XDP_FLAGS_DRV_MODE)
			},
			"ip link set dev steer0 xdpdrv off",
		},
		"generic": {
			func(t *testing.T, d netlink.Link, p *ebpf.Program) {
				attachWithoutLink(t, d, p, unix.XDP_FLAGS_SKB_MODE)
			},
			"ip link set dev steer0 xdpgeneric off",
		},
		"link": {
			func(t *testing.T, d netlink.Link, p *ebpf.Program) { attachByLink(t, d, p, link.XDPDriverMode) },
			fmt.Sprintf("or by stopping process %d", os.Getpid()),
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			enterNamespace(t)
			device, _ := veth(t)
			way.put(t, device, passAll(t, "another_program"))
			before := xdpOn(t, device)
			program := load(t)
			for _, mode := range []steer.Mode{steer.Native, steer.Generic} {
				_, err := program.Attach(device.Attrs().Index, mode)
				var foreign *steer.ForeignError
				if !errors.As(err, &foreign) || foreign.Program != "another_program" || foreign.ID != before.ProgId || foreign.Interface != "steer0" {
					t.Fatalf("error %v", err)
				}
				for _, want := range []string{"steer0", "another_program", fmt.Sprint(before.ProgId), way.hint} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q lacks %q", err, want)
					}
				}
			}
			if x := xdpOn(t, device); x == nil || x.ProgId != before.ProgId {
				t.Errorf("the program was %+v and is %+v", before, x)
			}
		})
	}
}

// TestStaleProgram: a program of Sluice's without a process is replaced, however it was left.
func TestStaleProgram(t *testing.T) {
	ways := map[string]func(*testing.T, netlink.Link, *ebpf.Program){
		"native": func(t *testing.T, d netlink.Link, p *ebpf.Program) {
			attachWithoutLink(t, d, p, unix.XDP_FLAGS_DRV_MODE)
		},
		"generic": func(t *testing.T, d netlink.Link, p *ebpf.Program) {
			attachWithoutLink(t, d, p, unix.XDP_FLAGS_SKB_MODE)
		},
		"pinned": func(t *testing.T, d netlink.Link, p *ebpf.Program) {
			dir := t.TempDir()
			if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
			l := attachByLink(t, d, p, link.XDPGenericMode)
			if err := l.Pin(filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, leave := range ways {
		for _, mode := range []steer.Mode{steer.Native, steer.Generic} {
			t.Run(name+" by "+mode.String(), func(t *testing.T) {
				enterNamespace(t)
				device, _ := veth(t)
				stale := passAll(t, "sluice_steer")
				leave(t, device, stale)
				if err := stale.Close(); err != nil {
					t.Fatal(err)
				}
				before := xdpOn(t, device)
				if before == nil {
					t.Fatal("nothing is left on the interface")
				}
				attach(t, load(t), device, mode)
				if x := xdpOn(t, device); x == nil || x.ProgId == before.ProgId {
					t.Errorf("the program was %+v and is %+v", before, x)
				}
			})
		}
	}
}

// TestCapabilities: the service needs no more than its unit file gives it, and reports what it
// lacks.
func TestCapabilities(t *testing.T) {
	enterNamespace(t)
	device, _ := veth(t)
	keep := func(capabilities ...int) {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		for _, c := range capabilities {
			data[c/32].Effective |= 1 << (c % 32)
			data[c/32].Permitted |= 1 << (c % 32)
		}
		if err := unix.Capset(&header, &data[0]); err != nil { // of this thread only
			t.Fatal(err)
		}
	}
	keep(unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_BPF, unix.CAP_IPC_LOCK)
	program, err := steer.Load()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if err := program.Set(testRules()); err != nil {
		t.Error(err)
	}
	port, err := program.Attach(device.Attrs().Index, steer.Native)
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	// A program without a readable name is foreign, and is left alone.
	_, err = program.Attach(device.Attrs().Index, steer.Native)
	var foreign *steer.ForeignError
	if !errors.As(err, &foreign) || foreign.Program != "" || foreign.ID == 0 {
		t.Errorf("second attachment: %v", err)
	}

	keep(unix.CAP_NET_ADMIN)
	_, err = steer.Load()
	if err == nil || !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "CAP_BPF") || strings.Contains(err.Error(), "MEMLOCK") {
		t.Errorf("without CAP_BPF: %v", err)
	}
}
