package keeper

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxStored is the number of descriptors that the store holds: sockets of 16 ports with 64 queues
// each, and as many maps.
const maxStored = 2048

// store holds descriptors for the child, in the order in which they came. Several may have one
// name.
type store struct {
	entries []entry
}

type entry struct {
	name string
	file *os.File
}

// add stores descriptors, and owns them. Names are those that systemd allows.
func (s *store) add(name string, fds []int) error {
	if name == "" {
		name = "stored" // systemd's default
	}
	err := s.allowed(name, len(fds))
	for _, fd := range fds {
		if err != nil {
			unix.Close(fd)
			continue
		}
		s.entries = append(s.entries, entry{name, os.NewFile(uintptr(fd), name)})
	}
	return err
}

func (s *store) allowed(name string, more int) error {
	switch {
	case len(name) > 255 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' }):
		return fmt.Errorf("the name %q must be at most 255 printable ASCII characters without a colon", name)
	case len(s.entries)+more > maxStored:
		return fmt.Errorf("%s: %d descriptors are held already; at most %d are possible", name, len(s.entries), maxStored)
	}
	return nil
}

// remove closes the descriptors of this name.
func (s *store) remove(name string) {
	kept := s.entries[:0]
	for _, e := range s.entries {
		if e.name == name {
			e.file.Close()
			continue
		}
		kept = append(kept, e)
	}
	clear(s.entries[len(kept):])
	s.entries = kept
}

// files returns all descriptors, and their names separated by colons. They remain the store's.
func (s *store) files() (files []*os.File, names string) {
	list := make([]string, len(s.entries))
	for i, e := range s.entries {
		files, list[i] = append(files, e.file), e.name
	}
	return files, strings.Join(list, ":")
}

func (s *store) len() int { return len(s.entries) }

func (s *store) close() {
	for _, e := range s.entries {
		e.file.Close()
	}
	s.entries = nil
}
