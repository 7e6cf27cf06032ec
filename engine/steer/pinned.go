package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// pins is a Holder of links and counters: files in a BPF file system hold them, without any
// process, and the other holder does, if there is one. The names of files begin with the number of
// the network namespace, because numbers of interfaces mean something only there.
type pins struct {
	dir    string
	prefix string
	keep   bool   // false: files are only taken over, and removed
	other  Holder // nil: there is none
}

// Pin returns a holder of links and counters by files in dir, besides the other holder, which may
// be nil. Without keep it only finds and removes files that an earlier process has left; if there
// is nothing of the kind it returns other.
func Pin(dir string, keep bool, other Holder) (Holder, error) {
	number, err := namespaceNumber()
	if err != nil {
		return other, err
	}
	p := &pins{dir: dir, prefix: number + ".", keep: keep, other: other}
	if keep {
		if err := CanPin(dir); err != nil {
			return other, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return other, fmt.Errorf("the XDP programs cannot be pinned: %w", err)
		}
	} else if len(p.files()) == 0 {
		return other, nil
	}
	return p, nil
}

// CanPin returns why nothing can be pinned in a directory, which need not exist yet.
func CanPin(dir string) error {
	var stat unix.Statfs_t
	at := dir // what exists of it
	err := unix.Statfs(at, &stat)
	if errors.Is(err, unix.ENOENT) {
		at = filepath.Dir(dir)
		err = unix.Statfs(at, &stat)
	}
	if err == nil && stat.Type == unix.BPF_FS_MAGIC {
		err = unix.Access(at, unix.W_OK|unix.X_OK)
	}
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%s cannot be written to (%w): make it a directory of the user who runs this", dir, err)
	case err != nil:
		return fmt.Errorf("%s: %w: mount a BPF file system there: mount -t bpf bpf %s", dir, err, filepath.Dir(dir))
	case stat.Type != unix.BPF_FS_MAGIC:
		return fmt.Errorf("%s is not in a BPF file system: mount one: mount -t bpf bpf %s", dir, filepath.Dir(dir))
	}
	return nil
}

// namespaceNumber returns the number of this thread's network namespace.
func namespaceNumber() (string, error) {
	name, err := os.Readlink("/proc/thread-self/ns/net")
	return strings.Trim(strings.TrimPrefix(name, "net:"), "[]"), err
}

func (p *pins) path(name string) string {
	// dots are not allowed in a BPF file system
	return filepath.Join(p.dir, strings.ReplaceAll(p.prefix+name, ".", "-"))
}

// files returns the names that files stand for.
func (p *pins) files() (names []string) {
	entries, _ := os.ReadDir(p.dir) // it need not exist
	for _, e := range entries {
		name := strings.ReplaceAll(e.Name(), "-", ".")
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			names = append(names, rest)
		}
	}
	return names
}

// Names implements Holder. A name may be there twice.
func (p *pins) Names() []string {
	names := p.files()
	if p.other != nil {
		names = append(p.other.Names(), names...)
	}
	return names
}

// Take implements Holder: the other holder's copy comes first.
func (p *pins) Take(name string) (fd int, ok bool) {
	if p.other != nil {
		if fd, ok = p.other.Take(name); ok {
			return fd, ok
		}
	}
	var pinned interface {
		FD() int
		Close() error
	}
	var err error
	if strings.HasPrefix(name, linkName) {
		pinned, err = loadLink(p.path(name))
	} else {
		pinned, err = ebpf.LoadPinnedMap(p.path(name), nil)
	}
	if err != nil {
		return 0, false
	}
	defer pinned.Close()
	fd, err = unix.FcntlInt(uintptr(pinned.FD()), unix.F_DUPFD_CLOEXEC, 0)
	return fd, err == nil
}

// rawLink is a link of XDP.
type rawLink interface {
	link.Link
	FD() int
}

func loadLink(path string) (rawLink, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil, err
	}
	raw, ok := l.(rawLink)
	if !ok {
		return nil, errors.Join(errors.New("the link has no descriptor"), l.Close())
	}
	return raw, nil
}

// Put implements Holder.
func (p *pins) Put(name string, fd int) (err error) {
	if p.other != nil {
		err = p.other.Put(name, fd)
	}
	if p.keep {
		err = errors.Join(err, p.unpin(name), p.pin(name, fd))
	}
	return err
}

// Remove implements Holder.
func (p *pins) Remove(name string) (err error) {
	if p.other != nil {
		err = p.other.Remove(name)
	}
	return errors.Join(err, p.unpin(name))
}

// pin makes a file hold a copy of a link or map.
func (p *pins) pin(name string, fd int) error {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var pinned interface {
		Pin(path string) error
		Close() error
	}
	if strings.HasPrefix(name, linkName) {
		pinned, err = link.NewFromFD(fd) // owns fd, also when it fails
	} else {
		pinned, err = ebpf.NewMapFromFD(fd)
	}
	if err != nil {
		return err
	}
	return errors.Join(pinned.Pin(p.path(name)), pinned.Close())
}

func (p *pins) unpin(name string) error {
	if err := os.Remove(p.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Release ends what processes have left on an interface that no longer run: it detaches their XDP
// program and removes the files that hold it. It reports whether there was one. The error is a
// *BusyError if a process still runs, and a *ForeignError if the program is not Sluice's.
func Release(dir, ifname string) (found bool, err error) {
	device, left, err := leftOn(ifname)
	if err != nil {
		return false, err
	}
	number, err := namespaceNumber()
	if err != nil {
		return false, err
	}
	p := &pins{dir: dir, prefix: number + "."}
	if left {
		err = clearDevice(device)
	}
	index := strconv.Itoa(device.Attrs().Index)
	return left, errors.Join(err, p.unpin(linkName+index), removeMaps(p, index))
}

// Dropping reports whether an interface has the XDP program of a Sluice that no longer runs: what
// is for services is dropped there.
func Dropping(ifname string) bool {
	_, left, err := leftOn(ifname)
	return err == nil && left
}
