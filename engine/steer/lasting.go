package steer

import (
	"errors"

	"github.com/cilium/ebpf"
)

// The maps of a port that go on in the next process: counters count on, and heartbeats are read by
// the former program for as long as that is in place. At the holder a map is named by its name in
// the program and the number of the interface, as in "counters.7".
var lastingMaps = []string{steerMapCounters, steerMapHeartbeats}

// lastingName returns the name at the holder of a map of the interface with a number.
func lastingName(name, number string) string { return name + "." + number }

// inheritMaps takes over the maps of the interface with a number from the former process.
func (p *Program) inheritMaps(number string) {
	for _, name := range lastingMaps {
		at := lastingName(name, number)
		fd, ok := p.holder.Take(at)
		if !ok {
			continue
		}
		m, err := ebpf.NewMapFromFD(fd) // owns fd, also when it fails
		if err != nil {
			continue
		}
		if p.spec.Maps[name].Compatible(m) != nil { // of another version
			m.Close()
			continue
		}
		p.lasting[at] = m
	}
}

// removeMaps makes the holder close the maps of the interface with a number.
func removeMaps(h Holder, number string) (err error) {
	for _, name := range lastingMaps {
		err = errors.Join(err, h.Remove(lastingName(name, number)))
	}
	return err
}

// closeLasting closes the former process's maps; ports have copies.
func (p *Program) closeLasting() (err error) {
	for _, m := range p.lasting {
		err = errors.Join(err, m.Close())
	}
	p.lasting = nil
	return err
}
