package steer

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Program is the steering program with its rules, ready to be attached to ports. Its methods belong
// to one goroutine; those of the Ports that it makes may be called from others.
type Program struct {
	spec      *ebpf.CollectionSpec
	addresses *ebpf.Map
	ports     *ebpf.Map
	ranges    *ebpf.Map
	stations  *ebpf.Map
	own       *ebpf.Map
	detour    *ebpf.Map
	opened    *ebpf.Map // written by the program alone, as is fragments
	fragments *ebpf.Map
	rcu       *rcuWait
	installed table // what the maps hold, entry by entry, even after a Set that failed half way
	writes    int   // to the maps, ever

	leave   bool                 // ports stay attached when they are closed
	holder  Holder               // of links and maps; nil: they end with the process
	former  map[int]*formerLink  // of the former process, by interface
	lasting map[string]*ebpf.Map // of the former process, by name at the holder
	waiting []*Port              // for the first Set, which takes the place of the former program
	loading sync.Mutex           // held while AttachLater's program is loaded
}

// ruleEntries is the capacity of each map of rules: for the rules before and after a Set together,
// of as many services and backends as a configuration may have. An entry has memory only when it is
// in use; a map of this capacity has 16 MiB without any.
const ruleEntries = 1 << 20

// Load creates the maps that hold the rules, empty: until Set, every frame passes to the kernel. It
// needs CAP_BPF and CAP_NET_ADMIN, as Attach does; the error names them if they are missing.
func Load() (*Program, error) {
	if err := rlimit.RemoveMemlock(); err != nil { // kernels before 5.11 charge maps to it
		return nil, fmt.Errorf("steer: raising the limit on locked memory: %w", explain(err))
	}
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("steer: the XDP program in this binary cannot be read: %w", err)
	}
	for _, name := range []string{steerMapAddresses, steerMapPorts, steerMapRanges} {
		spec.Maps[name].MaxEntries = ruleEntries
		spec.Maps[name].Flags |= unix.BPF_F_NO_PREALLOC
	}
	spec.Maps[steerMapStations].Flags |= unix.BPF_F_NO_PREALLOC
	p := &Program{spec: spec, installed: newTable()}
	if err := p.createMaps(); err != nil {
		p.Close()
		return nil, fmt.Errorf("steer: creating the XDP program's maps: %w", explain(err))
	}
	return p, nil
}

func (p *Program) createMaps() (err error) {
	if p.addresses, err = ebpf.NewMap(p.spec.Maps[steerMapAddresses]); err != nil {
		return err
	}
	if p.ports, err = ebpf.NewMap(p.spec.Maps[steerMapPorts]); err != nil {
		return err
	}
	if p.ranges, err = ebpf.NewMap(p.spec.Maps[steerMapRanges]); err != nil {
		return err
	}
	if p.stations, err = ebpf.NewMap(p.spec.Maps[steerMapStations]); err != nil {
		return err
	}
	if p.own, err = ebpf.NewMap(p.spec.Maps[steerMapOwn]); err != nil {
		return err
	}
	if p.detour, err = ebpf.NewMap(p.spec.Maps[steerMapDetour]); err != nil {
		return err
	}
	if p.opened, err = ebpf.NewMap(p.spec.Maps[steerMapOpened]); err != nil {
		return err
	}
	if p.fragments, err = ebpf.NewMap(p.spec.Maps[steerMapFragments]); err != nil {
		return err
	}
	p.rcu, err = newRCUWait()
	return err
}

// Detour sets the interface that answers to probes are redirected to: the prober's TAP. The kernel
// clears the setting when the interface is removed. Without an interface answers pass to the
// kernel.
func (p *Program) Detour(ifindex int) error {
	if err := p.detour.Put(uint32(0), uint32(ifindex)); err != nil {
		return fmt.Errorf("steer: redirecting answers to probes to interface %d: %w", ifindex, explain(err))
	}
	return nil
}

// Close closes the rules' maps; attached ports keep the rules of the last Set. It is safe to call
// twice.
func (p *Program) Close() error {
	err := errors.Join(p.closeFormer(), p.closeLasting(), p.addresses.Close(), p.ports.Close(), p.ranges.Close(), p.stations.Close(), p.own.Close(),
		p.detour.Close(), p.opened.Close(), p.fragments.Close(), p.rcu.close())
	p.addresses, p.ports, p.ranges, p.stations, p.own = nil, nil, nil, nil, nil
	p.detour, p.opened, p.fragments, p.rcu = nil, nil, nil, nil
	return err
}

// Set makes r the rules of all ports, attached or not yet. It writes only the difference from the
// rules before. A frame that the old and the new rules send to the same target goes there at every
// moment in between. A Set that changes something takes some tens of milliseconds.
//
// After an error about a rule or about capacity nothing has changed. After any other error, which
// means that the kernel is out of memory, the rules are a mixture, and the next Set continues from
// there.
func (p *Program) Set(r Rules) error {
	want, err := r.compile()
	if err != nil {
		return err
	}
	if err := p.fits(want); err != nil {
		return err
	}
	for _, step := range p.steps(want) {
		writes := p.writes
		if err := step(); err != nil {
			return err
		}
		if p.writes == writes {
			continue
		}
		if err := p.rcu.wait(); err != nil {
			return err
		}
	}
	return p.replaceFormer()
}

// steps returns the steps from the installed rules to the wanted ones. In between, both hold
// together: the entries that an address's roles refer to exist before the roles are set and until
// after they are cleared, and addresses that are local before or after are local throughout. A run
// of the program reads several entries, one after another. All runs end between two steps, so a run
// sees at most two successive states.
func (p *Program) steps(want table) []func() error {
	before := maps.Clone(p.installed.addresses)
	roles := func(mix func(old, new steerRole) steerRole) error {
		return p.setRoles(before, want.addresses, mix)
	}
	return []func() error{
		func() error {
			return roles(func(old, new steerRole) steerRole { return old | new&steerRoleLOCAL })
		},
		func() error {
			return errors.Join(
				put(p, p.ports, p.installed.ports, want.ports, nil),
				put(p, p.ranges, p.installed.ranges, want.ranges, nil),
				put(p, p.stations, p.installed.stations, want.stations, nil),
				p.setOwn(&want.own),
				roles(func(old, new steerRole) steerRole { return old | new }))
		},
		func() error {
			return roles(func(old, new steerRole) steerRole { return new | old&steerRoleLOCAL })
		},
		func() error {
			return errors.Join(
				remove(p, p.ports, p.installed.ports, want.ports),
				remove(p, p.ranges, p.installed.ranges, want.ranges),
				remove(p, p.stations, p.installed.stations, want.stations))
		},
		func() error {
			return roles(func(old, new steerRole) steerRole { return new })
		},
	}
}

// setOwn writes the stations that are found fast. Those that are replaced are in the other map
// still.
func (p *Program) setOwn(want *[ownStations]steerStation) error {
	for i := range want {
		if p.installed.own[i] == want[i] {
			continue
		}
		if err := p.own.Put(uint32(i), want[i]); err != nil {
			return fmt.Errorf("steer: writing a MAC address for the XDP program: %w", explain(err))
		}
		p.installed.own[i] = want[i]
		p.writes++
	}
	return nil
}

// setRoles sets the roles of each address to a mixture of those before and those wanted.
func (p *Program) setRoles(before, want map[steerAddress]steerRole, mix func(old, new steerRole) steerRole) error {
	target := make(map[steerAddress]steerRole, len(want))
	for _, addresses := range []map[steerAddress]steerRole{before, want} {
		for a := range addresses {
			if roles := mix(before[a], want[a]); roles != 0 {
				target[a] = roles
			}
		}
	}
	return errors.Join(
		put(p, p.addresses, p.installed.addresses, target, p.keepOpener),
		remove(p, p.addresses, p.installed.addresses, target))
}

// keepOpener adds the bit that the XDP program has set in an address's roles to those that replace
// them. If the program sets it in between, the bit is lost: then packets of that one connection go
// to Sluice, which gives them back to the kernel.
func (p *Program) keepOpener(a steerAddress, roles steerRole) steerRole {
	var now steerRole
	if err := p.addresses.Lookup(a, &now); err != nil { // there is no entry yet
		return roles
	}
	return roles | now&steerRoleOPENER
}

// fits checks that the new rules fill at most half of each map, because a map holds the old and the
// new ones together for a moment.
func (p *Program) fits(t table) error {
	for _, c := range []struct {
		what   string
		needed int
		m      *ebpf.Map
	}{
		{"addresses", len(t.addresses), p.addresses},
		{"single ports", len(t.ports), p.ports},
		{"blocks of port ranges", len(t.ranges), p.ranges},
		{"MAC addresses of ports and VLANs", len(t.stations), p.stations},
	} {
		if limit := int(c.m.MaxEntries() / 2); c.needed > limit {
			return fmt.Errorf("steer: %d %s are needed in the XDP program's map, and at most %d are possible: configure fewer",
				c.needed, c.what, limit)
		}
	}
	return nil
}

// put writes the entries of want that m does not hold yet; have mirrors m. Each value is written as
// written returns it, if that is not nil.
func put[K, V comparable](p *Program, m *ebpf.Map, have, want map[K]V, written func(K, V) V) error {
	for k, v := range want {
		if old, ok := have[k]; ok && old == v {
			continue
		}
		value := v
		if written != nil {
			value = written(k, v)
		}
		if err := m.Put(k, value); err != nil {
			return fmt.Errorf("steer: writing a rule for the XDP program: %w", explain(err))
		}
		have[k] = v
		p.writes++
	}
	return nil
}

// remove deletes what want lacks from m; have mirrors m.
func remove[K, V comparable](p *Program, m *ebpf.Map, have, want map[K]V) error {
	for k := range have {
		if _, ok := want[k]; ok {
			continue
		}
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("steer: removing a rule of the XDP program: %w", explain(err))
		}
		delete(have, k)
		p.writes++
	}
	return nil
}

// permissionError replaces the libraries' text for EPERM, which blames the memory limit. On kernels
// from 5.11 on that is never the cause.
type permissionError struct{ err error }

func (permissionError) Error() string {
	return "XDP needs the capabilities CAP_BPF and CAP_NET_ADMIN: run as root, or give the service AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK"
}

func (e permissionError) Unwrap() error { return e.err }

// explain returns err, or a permissionError if err is EPERM.
func explain(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return permissionError{err}
	}
	return err
}
