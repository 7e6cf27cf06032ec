package steer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// Program is the steering program with its rules, ready to be attached to ports. Its methods belong to one
// goroutine; those of the Ports that it makes may be called from others.
type Program struct {
	spec      *ebpf.CollectionSpec
	addresses *ebpf.Map
	ports     *ebpf.Map
	ranges    *ebpf.Map
	grace     *grace
	installed table // what the maps hold, entry by entry, even after a Set that failed half way
}

// Load creates the maps that hold the rules, empty: until Set, every frame passes to the kernel. It needs CAP_BPF
// and CAP_NET_ADMIN, as Attach does, and says so if they are missing.
func Load() (*Program, error) {
	if err := rlimit.RemoveMemlock(); err != nil { // kernels before 5.11 charge maps to it
		return nil, fmt.Errorf("steer: raising the limit on locked memory: %w", explain(err))
	}
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("steer: the XDP program in this binary can't be read: %w", err)
	}
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
	p.grace, err = newGrace()
	return err
}

// Close gives up the rules' maps; attached ports keep working with the rules of the last Set. It is safe to call
// twice.
func (p *Program) Close() error {
	err := errors.Join(p.addresses.Close(), p.ports.Close(), p.ranges.Close(), p.grace.close())
	p.addresses, p.ports, p.ranges, p.grace = nil, nil, nil, nil
	return err
}

// Set makes r the rules of all ports, attached or not yet. It writes only what differs from the rules before, and
// in such an order that a packet that is ours under the old and under the new rules is ours at every moment
// between, and one that is the kernel's because of Locals under both stays so.
//
// An error about a rule or about capacity means that nothing has changed. After any other, which only a kernel out
// of memory gives, the rules are a mixture, and the next Set continues from there.
func (p *Program) Set(r Rules) error {
	want, err := r.compile()
	if err != nil {
		return err
	}
	if err := p.fits(want); err != nil {
		return err
	}
	// What an address's roles refer to must be there before the roles say so, and for as long as a run of the
	// program that has read them may go on to look for it.
	if err := put(p.ports, p.installed.ports, want.ports); err != nil {
		return err
	}
	if err := put(p.ranges, p.installed.ranges, want.ranges); err != nil {
		return err
	}
	if err := p.setAddresses(want.addresses); err != nil {
		return err
	}
	ports, ranges := surplus(p.installed.ports, want.ports), surplus(p.installed.ranges, want.ranges)
	if len(ports) == 0 && len(ranges) == 0 {
		return nil
	}
	if err := p.grace.wait(); err != nil {
		return err
	}
	if err := remove(p.ports, p.installed.ports, ports); err != nil {
		return err
	}
	return remove(p.ranges, p.installed.ranges, ranges)
}

// fits checks the new rules against half of each map, because old and new ones are in it together for a moment.
func (p *Program) fits(t table) error {
	for _, c := range []struct {
		what   string
		needed int
		m      *ebpf.Map
	}{
		{"addresses", len(t.addresses), p.addresses},
		{"single ports", len(t.ports), p.ports},
		{"blocks of port ranges", len(t.ranges), p.ranges},
	} {
		if limit := int(c.m.MaxEntries() / 2); c.needed > limit {
			return fmt.Errorf("steer: the services and backends need %d %s in the XDP program's map, and at most %d are possible: configure fewer",
				c.needed, c.what, limit)
		}
	}
	return nil
}

// setAddresses brings the roles of addresses in line. Addresses that become this host's come first and those that
// cease to be last, so that no rule of the other addresses takes the host's own packets meanwhile.
func (p *Program) setAddresses(want map[steerAddress]steerRole) error {
	have := p.installed.addresses
	var changed []steerAddress
	for a, roles := range want {
		if have[a] != roles {
			changed = append(changed, a)
		}
	}
	changed = append(changed, surplus(have, want)...)
	slices.SortFunc(changed, func(a, b steerAddress) int {
		gain := func(a steerAddress) int { return int(want[a]&steerRoleLOCAL) - int(have[a]&steerRoleLOCAL) }
		return cmp.Compare(gain(b), gain(a))
	})
	for _, a := range changed {
		if want[a] == 0 {
			if err := remove(p.addresses, have, []steerAddress{a}); err != nil {
				return err
			}
		} else if err := put(p.addresses, have, map[steerAddress]steerRole{a: want[a]}); err != nil {
			return err
		}
	}
	return nil
}

// put writes the entries of want that m doesn't hold yet; have mirrors m.
func put[K, V comparable](m *ebpf.Map, have, want map[K]V) error {
	for k, v := range want {
		if old, ok := have[k]; ok && old == v {
			continue
		}
		if err := m.Put(k, v); err != nil {
			return fmt.Errorf("steer: writing a rule for the XDP program: %w", explain(err))
		}
		have[k] = v
	}
	return nil
}

// remove deletes keys from m; have mirrors m.
func remove[K, V comparable](m *ebpf.Map, have map[K]V, keys []K) error {
	for _, k := range keys {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("steer: removing a rule of the XDP program: %w", explain(err))
		}
		delete(have, k)
	}
	return nil
}

// surplus lists the keys of have that want lacks.
func surplus[K, V comparable](have, want map[K]V) []K {
	var keys []K
	for k := range have {
		if _, ok := want[k]; !ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// permissionError replaces what the libraries say about EPERM, which names the memory limit: on kernels from 5.11
// on, it is never that.
type permissionError struct{ err error }

func (permissionError) Error() string {
	return "XDP needs the capabilities CAP_BPF and CAP_NET_ADMIN: run as root, or give the service AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK"
}

func (e permissionError) Unwrap() error { return e.err }

// explain replaces err, if it is EPERM, with one that says in one sentence what is missing.
func explain(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return permissionError{err}
	}
	return err
}
