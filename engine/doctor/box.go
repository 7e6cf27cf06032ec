package doctor

import (
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/cpu"
	"sluice/engine/host"
	"sluice/pipeline/service"
)

// Box holds all facts that the checks use.
type Box struct {
	Config       *conf.Config // nil: no valid one
	ConfigErr    error        // why Config is nil
	Warnings     []conf.Problem
	Stats        *api.Stats // of the running daemon; nil: none answers
	Services     []api.Service
	Alarms       []api.Alarm // of the daemon
	DaemonErr    error       // why Stats is nil
	FS           fs.FS       // of the root directory; only proc and sys are read
	Links        map[string]*Link
	Addresses    []host.Address
	Allowed      []int // CPUs that the process may use
	Capabilities uint64
	Memlock      uint64 // bytes; the maximum value means no limit

	// Before and Now are two looks, a second apart; both are empty without a daemon. Passing and
	// Missed are what was seen between them.
	Before, Now Look
	Passing     []Passing
	Missed      []Missed
	Rules       []netlink.Rule // of ip-rule(8), without the kernel's own
	// told has the backends that a problem makes unreachable, of the checks that have run: one
	// cause is one problem
	told map[netip.Addr]bool
	// Elsewhere is the daemon's process if that is in another network namespace; 0: it is not.
	// InContainer: it is in another PID namespace, and which network it has is not known
	Elsewhere int

	// Route asks the kernel for the route to an address.
	Route func(netip.Addr) (Route, error)
	// Neighbour returns the state of a neighbour in the words of ip-neighbour(8), or "" if the
	// kernel has no entry.
	Neighbour func(ifindex int, a netip.Addr) string
}

// InContainer is the Elsewhere of a daemon that is not visible from here.
const InContainer = -1

// Link is a network interface.
type Link struct {
	Name               string
	Index              int
	Up                 bool
	MTU                int
	Kind               string // of a virtual device: veth, vlan, bond ...; "device" for hardware
	Parent             int    // of a VLAN: index of its parent interface
	Driver             string // "": unknown
	RxQueues, TxQueues int
	RxRing, RxRingMax  uint32          // 0: unknown
	Features           map[string]bool // of ethtool -k, by the kernel's names; nil: unknown
	ExistingProgram    error           // see steer.ExistingProgram
	Dropping           bool            // see steer.Dropping
}

// Route is the route to an address.
type Route struct {
	Ifindex int
	Gateway netip.Addr // invalid: on the link
	MTU     int        // of the route; 0: that of the interface
	Local   bool       // it is an address of this machine
	Table   int        // of the route; 0: unknown
}

// text returns the content of a small file of /proc or /sys, or "" if it does not exist.
func (b *Box) text(path string) string {
	data, err := fs.ReadFile(b.FS, path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// dir returns the names in a directory of /proc or /sys, if it exists.
func (b *Box) dir(path string) (names []string) {
	entries, _ := fs.ReadDir(b.FS, path)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// number returns the number in a file; ok reports whether there is one.
func (b *Box) number(path string) (n int, ok bool) {
	n, err := strconv.Atoi(b.text(path))
	return n, err == nil
}

// ports returns the interfaces of the configured ports, as far as they exist.
func (b *Box) ports() (all []*Link) {
	if b.Config == nil {
		return nil
	}
	for _, p := range b.Config.Ports {
		if l := b.Links[p.Name]; l != nil {
			all = append(all, l)
		}
	}
	return all
}

// portByIndex returns the port with that interface index, or with a VLAN of that index on it.
func (b *Box) portByIndex(index int) *Link {
	for _, l := range b.Links {
		if l.Index == index && l.Kind == "vlan" {
			index = l.Parent
			break
		}
	}
	ports := b.ports()
	if i := slices.IndexFunc(ports, func(l *Link) bool { return l.Index == index }); i >= 0 {
		return ports[i]
	}
	return nil
}

// linkByIndex returns an interface by its index, or nil.
func (b *Box) linkByIndex(index int) *Link {
	for _, l := range b.Links {
		if l.Index == index {
			return l
		}
	}
	return nil
}

// queuesOf returns the RX queues of a port that Sluice uses.
func (b *Box) queuesOf(l *Link) []int {
	for _, p := range b.Config.Ports {
		if p.Name == l.Name && p.Queues != nil {
			return p.Queues
		}
	}
	all := make([]int, l.RxQueues)
	for i := range all {
		all[i] = i
	}
	return all
}

// cores returns the CPUs of the workers: those of the daemon, else those that it would use.
func (b *Box) cores() []int {
	if b.Stats != nil {
		var cores []int
		for _, w := range b.Stats.Workers {
			cores = append(cores, w.CPU)
		}
		return cores
	}
	if b.Config != nil && len(b.Config.Engine.Cores) > 0 {
		return b.Config.Engine.Cores
	}
	return cpu.Default(b.Allowed)
}

// target is a backend with the services that it serves.
type target struct {
	address  netip.Addr
	mode     service.Mode
	services []string
}

func (t target) who() string {
	names := strings.Join(t.services[:min(3, len(t.services))], ", ")
	if len(t.services) > 3 {
		names += ", ..."
	}
	return t.address.String() + " (" + names + ")"
}

// targets returns each backend address and mode once, sorry servers included, in the order of the
// file.
func (b *Box) targets() []target {
	if b.Config == nil {
		return nil
	}
	type key struct {
		address netip.Addr
		mode    service.Mode
	}
	at := map[key]int{}
	var all []target
	for i := range b.Config.Services {
		s := &b.Config.Services[i]
		for _, backend := range s.Servers() {
			k := key{backend.Key.Address, backend.Mode}
			j, ok := at[k]
			if !ok {
				j = len(all)
				at[k] = j
				all = append(all, target{address: k.address, mode: k.mode})
			}
			if !slices.Contains(all[j].services, s.Name) {
				all[j].services = append(all[j].services, s.Name)
			}
		}
	}
	return all
}

// vips returns each service address once.
func (b *Box) vips() (all []netip.Addr) {
	if b.Config == nil {
		return nil
	}
	for _, s := range b.Config.Services {
		if !slices.Contains(all, s.Key.Address) {
			all = append(all, s.Key.Address)
		}
	}
	return all
}

// serviceOf returns the name of the service that a packet to an address and port belongs to, or "".
func (b *Box) serviceOf(protocol uint8, to netip.AddrPort) string {
	if b.Config == nil {
		return ""
	}
	for _, s := range b.Config.Services {
		k := s.Key
		if k.Address == to.Addr() && uint8(k.Protocol) == protocol && (k.Ports.First == 0 || k.Ports.First <= to.Port() && to.Port() <= k.Ports.Last) {
			return s.Name
		}
	}
	return ""
}

// onInterface returns the name of the interface that has an address, or "".
func (b *Box) onInterface(a netip.Addr) string {
	for _, own := range b.Addresses {
		if own.Prefix.Addr() == a {
			return own.Link
		}
	}
	return ""
}

// list joins the first few names.
func list(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + " and " + strconv.Itoa(len(names)-5) + " more"
	}
	return strings.Join(names, ", ")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
